"""Dictionaries whose code of a row depends on the row as a whole, so that no `select` and `pairs` can state it.

A pursuit chooses its next latent by what the earlier ones left over; a distance needs the length of the row. Such a class writes
`codes_of`, a differentiable function of whole rows; decoding stays linear. It has no `gains`: df_i/du_i would leave out how the
other latents answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.dictionaries.base import Dictionary
from assay.kernels import Codes, Top
from assay.kernels.reference import chosen

BLOCK = 1 << 22  # numbers in memory at once for a block of rows
N_NUDGES = 8


class WholeRows(Dictionary):
    """A subclass writes `codes_of`; everything else follows."""

    exceptions = {
        "test_gains_are_finite_differences": "its codes depend on whole rows, so it refuses `gains`",
        "test_golden_vectors_excuse_only_pairs_at_a_threshold": "it has no `select`; test_whole_rows.py tests `undecided`",
        "test_a_code_that_is_almost_zero_may_be_zero": "it has no `select` to look at",
    }

    def codes_of(self, x: Tensor) -> Tensor:
        """f [n, d_sae] of rows x [n, d_in], each row by itself, under autograd."""
        raise AssertionError(f"{self.arch} does not state `codes_of`")

    @property
    def row_size(self) -> int:
        """Numbers that `codes_of` holds for one row."""
        return self.d_sae

    def _dense_codes(
        self, x: Tensor, training: bool, progress: float = 1.0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        f = self.codes_of(x)
        return {self.main_code: f}, {}, f.detach() != 0

    @torch.no_grad()
    def encode_sparse(self, x: Tensor, *, training: bool = False) -> Codes:
        """Codes of x [n, d_in], a block of rows at a time; only pairs with f != 0. Raises BadInput on a wrong width."""
        rows = self.rows_of(x)
        parts = [Codes.of(self.codes_of(part)) for part in rows.split(max(1, BLOCK // self.row_size))]
        starts = torch.tensor([0, *(p.shape[0] for p in parts)]).cumsum(0).tolist()
        return Codes(
            torch.cat([p.row + start for p, start in zip(parts, starts, strict=False)]),
            torch.cat([p.latent for p in parts]),
            torch.cat([p.value for p in parts]),
            (len(rows), self.d_sae),
        )

    def gains(self, x: Tensor) -> Codes:
        """Refused: see above."""
        self.check_width(x, self.d_in)
        raise BadInput(
            f"{self.arch} has no gains: a code of it depends on the other latents of the row; use an architecture whose codes "
            "are functions of one pre-activation each, such as topk."
        )

    @torch.no_grad()
    def undecided(self, x: Tensor, tolerance: float) -> Tensor:
        """[n, d_sae]: pairs that go on or off when x is nudged by `tolerance`, relative, up and down along a few directions."""
        rng = torch.Generator().manual_seed(0)
        before = self.encode_sparse(x).dense() != 0
        found = torch.zeros_like(before)
        for _ in range(N_NUDGES):
            nudge = tolerance * torch.randn(x.shape, generator=rng).to(x) * x
            for moved in (x + nudge, x - nudge):
                found |= (self.encode_sparse(moved).dense() != 0) != before
        return found


def k_largest(f: Tensor, k: int, signed: bool = False) -> Tensor:
    """f [n, d_sae] with only the k largest f (|f| where signed) of each row kept, ties to the lower latent."""
    return f * chosen(f.detach(), Top(k, signed=signed))
