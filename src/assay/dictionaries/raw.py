r"""Control: the activations' own coordinates, k of them at a time.

    f = the k largest |x_j - mean_j| of each row, with their signs;   x_hat = f + mean

A dictionary that does not beat this has learned nothing that the model's own basis does not show.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import FIT, Dictionary
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Top


@config
class Config(BaseConfig):
    """Options of the raw control."""

    k: int
    """How many coordinates are kept in a token."""
    d_sae: int = 0
    """Always d_in; need not be given."""

    def __post_init__(self) -> None:
        if self.d_sae == 0:
            object.__setattr__(self, "d_sae", self.d_in)
        super().__post_init__()
        own = self.wiring in ("sae", "crosscoder")
        require(own, "wiring", self.wiring, "sae, or crosscoder over several sites: it predicts what it reads")
        require(self.d_sae == self.d_in, "d_sae", self.d_sae, f"d_in={self.d_in} (or left out)")
        require(self.d_out in (None, self.d_in), "d_out", self.d_out, f"d_in={self.d_in} (or left out)")
        require(0 < self.k <= self.d_in, "k", self.k, f"between 1 and d_in={self.d_in}")


class Raw(Dictionary):
    Config = Config
    role = "control"
    seedless = True
    learned_by = FIT
    fit_free = ("k",)
    signed = True

    def select(self, p: SimpleNamespace, training: bool) -> Top:
        return Top(self.config.k, signed=True)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"f": u}, {}

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        total, n = torch.zeros(self.config.d_in, dtype=torch.float64), 0
        for x in chunks:
            total += x.double().sum(0).cpu()
            n += len(x)
        self.b_dec.copy_(total / n)
        self.W_enc.copy_(torch.eye(self.config.d_in))
        self.W_dec.copy_(torch.eye(self.config.d_in))
