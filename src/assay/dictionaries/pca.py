r"""Control: principal components, k of them at a time.

    f = the k largest |(x - mean) V| of each row, with their signs;   x_hat = f V^T + mean

V are the eigenvectors of the covariance, the largest eigenvalue first, each signed so that its largest entry is positive. With
k = d_in this is the identity; taking the k largest codes of each token instead of the first k components is what makes it a fair
opponent of a sparse code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from assay.core.config import config
from assay.dictionaries.raw import Config as RawConfig
from assay.dictionaries.raw import Raw


@config
class Config(RawConfig):
    """Options of the PCA control."""


class Pca(Raw):
    Config = Config

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        d = self.config.d_in
        total, squares, n = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64), 0
        for x in chunks:
            wide = x.double().cpu()
            total += wide.sum(0)
            squares += wide.T @ wide
            n += len(wide)
        mean = total / n
        _, vectors = torch.linalg.eigh(squares / n - torch.outer(mean, mean))
        components = vectors.T.flip(0)  # row i is component i, the largest first
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        components = components * largest.sign()
        self.b_dec.copy_(mean)
        self.W_dec.copy_(components)
        self.W_enc.copy_(components.T)
