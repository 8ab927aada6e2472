r"""Classical sparse coding: a dictionary by online learning, k codes of a row by orthogonal matching pursuit.

    S = {}, r = x - b_dec;   k times:  S += argmax_i |r . W_enc[:, i]|,   f_S = argmin ||x - b_dec - f_S W_dec[S]||^2,
                                r = x - b_dec - f_S W_dec[S]
    x_hat = f W_dec + b_dec,   W_enc = W_dec^T, rows of length 1, b_dec the mean

A row stops early when nothing is left over. Codes are signed. Fitted in one pass over batches: each takes its lasso codes,
min ||x - f W_dec||^2 / 2 + alpha ||f||_1, and then improves the dictionary; `alpha` belongs to data whose mean squared length is 1
(centred and scaled as the first FIRST_ROWS rows are).

Sources: Mairal et al. 2010, "Online learning for matrix factorization and sparse coding", Algorithm 1, by scikit-learn's
MiniBatchDictionaryLearning; Pati, Rezaiifar & Krishnaprasad 1993 for the pursuit.
Differs from the paper: it is fitted with lasso codes and read with pursuit codes, so that k is exact; it starts from rows of the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.core.errors import BadInput
from assay.dictionaries.base import FIT
from assay.dictionaries.fitting import FitConfig, batches, whole_number
from assay.dictionaries.whole_rows import WholeRows

FIRST_ROWS = 4096  # what the fit's centre and scale are taken from
NOTHING = 1e-5  # a residual, or a new direction, below this share of its start counts as nothing


@config
class Config(FitConfig):
    """Options of sparse coding."""

    alpha: float = 0.1
    """Weight of the L1 norm in the codes of the fit, for rows of mean squared length 1."""
    batch_size_fit: int = 256
    """Rows in one step of the fit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "alpha", self.alpha, "at least 0")
        require(self.batch_size_fit > 0, "batch_size_fit", self.batch_size_fit, "positive")


class SparseCoding(WholeRows):
    Config = Config
    role = "baseline"
    learned_by = FIT
    fit_free = ("k",)
    signed = True

    def codes_of(self, x: Tensor) -> Tensor:
        rows = self.centred(x)
        with torch.no_grad():
            chosen, live = self.pursue(rows)
        atoms = self.W_dec[chosen] * live[:, :, None]
        gram = atoms @ atoms.transpose(1, 2) + torch.diag_embed((~live).to(rows))  # an empty place has the solution 0
        f = torch.linalg.solve(gram, (atoms @ rows[:, :, None]))[:, :, 0]
        return torch.zeros(len(rows), self.d_sae).to(rows).scatter_add(1, chosen, f * live)

    def pursue(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The latents chosen for rows [n, d_in], in order: ids [n, k] and which of these places are used [n, k].

        The residual is kept orthogonal to what was chosen through an orthonormal basis of it (Gram-Schmidt, twice).
        """
        residual, start = rows.clone(), rows.norm(dim=1)
        basis = rows.new_zeros(len(rows), self.config.k, rows.shape[1])
        chosen: list[Tensor] = []
        live: list[Tensor] = []
        for place in range(self.config.k):
            best, latent = (residual @ self.W_enc).abs().max(1)  # 0 for what was chosen
            direction = self.W_dec[latent]
            before = direction.norm(dim=1)
            for _ in range(2):
                along = (basis @ direction[:, :, None])[:, :, 0]
                direction = direction - (along[:, None, :] @ basis)[:, 0]
            length = direction.norm(dim=1)
            on = (best > NOTHING * start) & (length > NOTHING * before)
            basis[:, place] = torch.where(on, 1 / length.clamp_min(1e-30), 0.0)[:, None] * direction
            residual = residual - (residual * basis[:, place]).sum(1, keepdim=True) * basis[:, place]
            chosen.append(latent)
            live.append(on)
        return torch.stack(chosen, 1), torch.stack(live, 1)

    @property
    def row_size(self) -> int:
        return max(self.d_sae, 2 * self.config.k * self.d_in)

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning

        size, total, count = self.config.batch_size_fit, torch.zeros(self.d_in, dtype=torch.float64), 0
        found, centre, scale = None, total, torch.ones(())
        for rows in batches(chunks, size, first=max(FIRST_ROWS, self.d_sae)):
            if found is None:
                if len(rows) < self.d_sae:
                    raise BadInput(
                        f"{len(rows)} rows are too few for {self.d_sae} latents; give more rows or a smaller --d-sae."
                    )
                centre = rows.mean(0)
                scale = (rows - centre).pow(2).sum(1).mean().sqrt().clamp_min(1e-30)
                start = rows[torch.randperm(len(rows), generator=rng)[: self.d_sae]] - centre
                found = MiniBatchDictionaryLearning(
                    self.d_sae, alpha=self.config.alpha, batch_size=size, fit_algorithm="cd",
                    dict_init=(start / start.norm(dim=1, keepdim=True).clamp_min(1e-30)).numpy(),
                    random_state=whole_number(rng),
                )  # fmt: skip
            with warnings.catch_warnings():  # a batch's codes need not be exact, the next batch goes on from there
                warnings.simplefilter("ignore", ConvergenceWarning)
                for part in rows.split(size):
                    found.partial_fit(((part - centre) / scale).numpy())
            total, count = total + rows.sum(0), count + len(rows)
        if found is None:
            raise BadInput("There are no rows to learn from; give more text.")
        W_dec = torch.from_numpy(found.components_)
        W_dec = W_dec / W_dec.norm(dim=1, keepdim=True).clamp_min(1e-30)
        self.b_dec.copy_(total / count)
        self.W_dec.copy_(W_dec)
        self.W_enc.copy_(W_dec.T)
