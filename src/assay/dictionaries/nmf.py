r"""Non-negative matrix factorisation, k latents of each row.

    v = x (shift none), or [relu(x), relu(-x)] (shift split);   H = [H+] or [H+, H-], rows of length 1, all entries >= 0
    f = argmin_{f >= 0} ||v - f H||^2  by `n_updates` multiplicative updates  f <- f * (v H^T) / (f H H^T)  from f = v H^T;
    then the k largest of each row, and `n_updates` more on these alone
    x_hat = f (H+ - H-)        W_enc = H+^T,  W_dec = H+ - H-,  b_dec = 0

The number of updates is fixed, so a row's code never depends on other rows. NMF needs non-negative data, such as activations after a
ReLU; on the residual stream use `--shift split`, where each coordinate becomes its positive and its negative part.

Sources: Lee & Seung 2001, "Algorithms for non-negative matrix factorization", eq. 4; fitted in one pass over batches by
scikit-learn's MiniBatchNMF (Lefèvre, Bach & Févotte 2011).
Differs from the paper: splitting signed data, keeping k codes and updating these again are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.core.errors import BadInput
from assay.dictionaries.base import FIT
from assay.dictionaries.fitting import FitConfig, batches, whole_number
from assay.dictionaries.whole_rows import WholeRows


@config
class Config(FitConfig):
    """Options of non-negative matrix factorisation."""

    shift: Literal["none", "split"] = "none"
    """none: x must not be negative; split: its positive and its negative part, side by side."""
    n_updates: int = 50
    """Multiplicative updates of a code, before and again after the k largest are chosen."""
    batch_size_fit: int | None = None
    """Rows in one step of the fit; d_sae, or 256 where that is more, when not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_updates > 0, "n_updates", self.n_updates, "positive")
        size = self.batch_size_fit
        require(size is None or size > 0, "batch_size_fit", size, "positive")


class Nmf(WholeRows):
    Config = Config
    role = "baseline"
    variants = ("wiring", "shift")
    learned_by = FIT
    fit_free = ("k", "n_updates")

    def parts(self, x: Tensor) -> Tensor:
        """v [n, d_in or 2 d_in] of x [n, d_in]; raises BadInput where the data may not be signed."""
        if self.config.shift == "split":
            return torch.cat([x.relu(), (-x).relu()], dim=1)
        if bool((x < 0).any()):
            row = int((x < 0).any(1).nonzero()[0])
            raise BadInput(
                f"nmf reads non-negative activations, but row {row} holds {float(x[row].detach().min()):.3g}; use --shift split, or a site "
                "after a ReLU."
            )
        return x

    @property
    def factors(self) -> Tensor:
        """H [d_sae, d_in or 2 d_in]."""
        plus = self.W_enc.t()
        return plus if self.config.shift == "none" else torch.cat([plus, (plus - self.W_dec).clamp_min(0)], dim=1)

    def codes_of(self, x: Tensor) -> Tensor:
        v, H = self.parts(self.centred(x)), self.factors
        wanted, gram = v @ H.t(), H @ H.t()
        f = self.updated(wanted, wanted, lambda f: f @ gram)
        kept = torch.sort(f.detach(), dim=1, descending=True, stable=True).indices[:, : self.config.k]
        small = gram[kept[:, :, None], kept[:, None, :]]
        again = self.updated(f.gather(1, kept), wanted.gather(1, kept), lambda f: (small @ f[:, :, None])[:, :, 0])
        return torch.zeros_like(f).scatter(1, kept, again)

    def updated(self, f: Tensor, wanted: Tensor, blend: Callable[[Tensor], Tensor]) -> Tensor:
        """f after `n_updates` steps f * wanted / blend(f), where wanted = v H^T and blend(f) = f H H^T."""
        for _ in range(self.config.n_updates):
            f = f * wanted / blend(f).clamp_min(torch.finfo(f.dtype).tiny)
        return f

    @property
    def row_size(self) -> int:
        return self.d_sae + self.config.k**2

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        from sklearn.decomposition import MiniBatchNMF

        size = self.config.batch_size_fit or max(256, self.d_sae)
        seed = whole_number(rng)
        found = MiniBatchNMF(self.d_sae, init="random", batch_size=size, random_state=seed)  # pyright: ignore[reportArgumentType]
        for rows in batches(chunks, size):
            found.partial_fit(self.parts(rows).numpy())
        components = torch.from_numpy(found.components_)
        H = components / components.norm(dim=1, keepdim=True).clamp_min(1e-30)
        plus, minus = H[:, : self.d_in], H[:, self.d_in :]
        self.b_dec.zero_()
        self.W_enc.copy_(plus.T)
        self.W_dec.copy_(plus if self.config.shift == "none" else plus - minus)
