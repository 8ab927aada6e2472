r"""TopK sparse autoencoder.

    u    = (x - b_dec) W_enc
    f    = TopK(relu(u + b_enc)),  the k largest of each row, ties to the lower latent
    loss = ||x - (f W_dec + b_dec)||^2  +  auxk_coef * AuxK

AuxK lets the k_aux largest of the dead latents predict what the living ones left over; the trainer computes it
(`training/auxk.py`), because it needs to know which latents are dead. The rows of W_dec are kept at length 1.

Source: Gao et al. 2024, arXiv 2406.04093, section 2.3-2.4 and App. A.
Differs from the paper: the paper divides the squared error by the variance of the data; here the error is not divided and AuxK is
multiplied by that variance, which is the same loss up to one constant factor. The rows are renormalised after the update, not before.
The encoder starts as W_dec^T without the rescaling of the released code.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import Dictionary
from assay.dictionaries.initialisation import geometric_median, init_tied
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Top


@config
class Config(BaseConfig):
    """Options of a TopK SAE."""

    k: int
    """How many latents may be active in a token."""
    auxk_coef: float = 1 / 32
    """Weight of AuxK, the loss that revives dead latents; 0 switches it off."""
    k_aux: int | None = None
    """How many dead latents AuxK uses in a token; d_in / 2 when not given."""
    scope: Literal["all", "block"] = "all"
    """Among which latents the k are chosen: all together, or each layer's of a crosslayer or perlayer wiring by themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.k <= self.d_sae, "k", self.k, f"between 1 and --d-sae {self.d_sae}")
        require(self.auxk_coef >= 0, "auxk_coef", self.auxk_coef, "at least 0")
        require(self.k_aux is None or self.k_aux > 0, "k_aux", self.k_aux, "positive")


class Topk(Dictionary):
    Config = Config
    vectors = ("b_enc",)
    degree = {"b_enc": 1}
    dead_latents = "auxk"

    def select(self, p: SimpleNamespace, training: bool) -> Top:
        return Top(self.config.k, p.b_enc, scope=self.config.scope)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"f": (u + p.b_enc).relu()}, {}

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        init_tied(self, rng)
        self.b_dec.copy_(geometric_median(y))
