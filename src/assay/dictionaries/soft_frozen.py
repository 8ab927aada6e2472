r"""Control: TopK whose directions may turn only a little away from their random start.

    f = TopK(relu((x - b_dec) W_enc + b_enc)),   x_hat = f W_dec + b_dec,   cos(W_dec[i], start[i]) >= min_cosine

After every update a row that has turned too far is set to the nearest unit vector within the allowed cone.
Source: the soft-frozen decoder control of arXiv 2602.14111 (cosine at least 0.8), as reported in its abstract.
Differs from the paper: the activation rule is TopK with AuxK, so that its sparsity can be set on the grid of the other controls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk


@config
class Config(TopkConfig):
    """Options of the soft-frozen control."""

    min_cosine: float = 0.8
    """Least cosine of a row of W_dec with its start; 0 lets it turn by a right angle."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.layered, "wiring", self.wiring, "sae, transcoder or crosscoder")
        require(0 <= self.min_cosine <= 1, "min_cosine", self.min_cosine, "between 0 and 1")


class SoftFrozen(Topk):
    Config = Config
    role = "control"
    degree = Topk.degree | {"start": 0}
    exceptions = {"test_verify_catches_every_altered_parameter": "codes do not read `start`; only training does"}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.start: Tensor
        self.register_buffer("start", torch.zeros_like(self.W_dec))

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        super().init(rng, x, y)
        self.start.copy_(self.W_dec)

    @torch.no_grad()
    def constrain(self) -> None:
        least = self.config.min_cosine
        cosine = (self.W_dec * self.start).sum(1, keepdim=True) / self.W_dec.norm(dim=1, keepdim=True)
        aside = self.W_dec - (self.W_dec * self.start).sum(1, keepdim=True) * self.start
        aside = aside / aside.norm(dim=1, keepdim=True).clamp_min(1e-30)
        self.W_dec.copy_(torch.where(cosine < least, least * self.start + (1 - least**2) ** 0.5 * aside, self.W_dec))
