r"""Independent components (FastICA), k of them at a time.

    f = the k largest |(x - mean) W_enc| of each row, with their signs;   x_hat = f W_dec + mean

W_enc W_dec is the projection on the d_sae leading principal components (the identity for d_sae = d_in). Each component has length
1 in W_dec, so that |f| is what it adds to x_hat, and its largest entry is positive. Fitted on a sample: FastICA looks at all rows
in every iteration and cannot be streamed, so `--sample` rows are drawn from the stream and the rest gives only the mean.

Source: Hyvärinen & Oja 2000, "Independent component analysis: algorithms and applications", sections 5.2 and 6.2 (parallel,
log cosh), by scikit-learn's FastICA.
Differs from the paper: keeping the k largest codes is ours, so that it stands beside sparse codes on one grid of k.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.core.errors import BadInput
from assay.dictionaries.fitting import FitConfig, reservoir, whole_number
from assay.dictionaries.raw import Raw

RANK = 1e-10  # eigenvalues of the covariance below this share of the largest count as 0


@config
class Config(FitConfig):
    """Options of independent components."""

    d_sae: int = 0
    """Number of components, at most d_in; d_in when not given."""
    sample: int = 32_768
    """Rows, drawn at random from the stream, on which the components are found; they are held in memory."""
    max_iter: int = 200
    """Most iterations of FastICA."""

    def __post_init__(self) -> None:
        if self.d_sae == 0:
            object.__setattr__(self, "d_sae", self.d_in)
        super().__post_init__()
        require(
            self.d_sae <= self.d_in, "d_sae", self.d_sae, f"at most d_in={self.d_in}: components are never overcomplete"
        )
        require(self.sample > 1, "sample", self.sample, "at least 2 rows")
        require(self.max_iter > 0, "max_iter", self.max_iter, "positive")


class Ica(Raw):
    Config = Config
    role = "baseline"
    seedless = False

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        from sklearn.decomposition import FastICA

        rows, mean = reservoir(chunks, self.config.sample, rng)
        variance = torch.linalg.eigvalsh(torch.cov(rows.T, correction=0)) if len(rows) > 1 else torch.zeros(1)
        rank = int((variance > RANK * variance[-1]).sum())
        if rank < self.d_sae:
            raise BadInput(
                f"The activations vary along {rank} directions only, so there are no {self.d_sae} independent components; "
                f"give --d-sae {max(rank, 1)} or less, or more rows."
            )
        found = FastICA(
            self.d_sae, whiten="unit-variance", whiten_solver="eigh", max_iter=self.config.max_iter,
            random_state=whole_number(rng),
        ).fit(rows.numpy())  # fmt: skip
        W_dec, W_enc = torch.from_numpy(found.mixing_).T, torch.from_numpy(found.components_).T
        length = W_dec.norm(dim=1) * W_dec.gather(1, W_dec.abs().argmax(1, keepdim=True)).sign()[:, 0]
        self.b_dec.copy_(mean)
        self.W_dec.copy_(W_dec / length[:, None])
        self.W_enc.copy_(W_enc * length)
