r"""ReLU sparse autoencoder with an L1 penalty, in its two usual forms.

decoder_norm = "unit":                                                         Bricken et al. 2023
    f    = relu((x - b_dec) W_enc + b_enc),   rows of W_dec kept at length 1
    loss = ||x - (f W_dec + b_dec)||^2 + l1_coef * sum_i f_i

decoder_norm = "free":                                                         Anthropic, update of April 2024
    f    = relu(x W_enc + b_enc),             rows of W_dec free
    loss = ||x - (f W_dec + b_dec)||^2 + l1_coef * sum_i f_i ||W_dec_i||

The second is what published releases call "standard"; with it the penalty cannot be evaded by shrinking f and growing W_dec.

Sources: the unit form is the baseline of arXiv 2404.16014v2, section 2.1; the free form follows the replication scripts of two
libraries, the original page was not read. It starts from rows of length 0.1, the unit form from length 1.
Differs from the paper: the released form rescales its data so that E||x|| = sqrt(d_in); here the scale is an option of the run.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import Dictionary
from assay.dictionaries.initialisation import firing_threshold, init_tied
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Above


@config
class Config(BaseConfig):
    """Options of a ReLU SAE."""

    l1_coef: float
    """Weight of the L1 penalty; more of it means fewer active latents."""
    init_l0: float | None = None
    """L0 at the start, by biases at a quantile of a sample; biases start at 0 (about half of all latents on) when not given."""
    decoder_norm: Literal["unit", "free"] = "unit"
    """unit: rows of W_dec are kept at length 1; free: the penalty weighs each latent by its row's length (April 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.l1_coef >= 0, "l1_coef", self.l1_coef, "at least 0")
        l0 = self.init_l0
        require(l0 is None or 0 < l0 < self.d_sae, "init_l0", l0, f"between 0 and --d-sae {self.d_sae}")


class Relu(Dictionary):
    Config = Config
    role = "baseline"
    variants = ("wiring", "decoder_norm")
    vectors = ("b_enc",)
    degree = {"b_enc": 1}
    uses_dec_norm = True
    dead_latents = "resample"
    beta1 = 0.0  # the baselines of arXiv 2404.16014 App. D use the recipe of the Gated runs

    @property
    def pre_bias(self) -> str | None:
        return super().pre_bias if self.unit_norm else None

    @property
    def unit_norm(self) -> bool:
        return self.config.decoder_norm == "unit"

    def select(self, p: SimpleNamespace, training: bool) -> Above:
        return Above(-p.b_enc)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        f = (u + p.b_enc).relu()
        return {"f": f}, {"l1": f if self.unit_norm else f * p.dec_norm}

    def weights(self, ramp: float) -> dict[str, float]:
        return {"recon": 1.0, "l1": self.config.l1_coef * ramp}

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        init_tied(self, rng, norm=1.0 if self.unit_norm else 0.1)
        self.b_dec.copy_(y.mean(0))
        if self.config.init_l0 is not None:
            self.get_parameter("b_enc").copy_(-firing_threshold(self, x, self.config.init_l0))
