r"""Gated sparse autoencoder.

    u    = (x - b_dec) W_enc                                       [batch, d_sae]   eq. 6, tied by eq. 7
    f    = 1[u + b_gate > 0] * relu(exp(r_mag) * u + b_mag)        gate times magnitude
    v    = relu(u + b_gate)                                        the gate's own ReLU code
    loss = ||x - (f W_dec + b_dec)||^2 + l1_coef * sum_i v_i + ||x - (v sg[W_dec] + sg[b_dec])||^2        eq. 8

sg is stop-gradient: the auxiliary reconstruction trains the gate through a decoder that it cannot move. x - b_dec in the encoder
is not stopped, so l1 and aux do reach b_dec there (as in the paper's pseudo-code, App. G). All sums run over features; the mean
runs over tokens. The rows of W_dec are kept at length 1.

Source: Rajamanoharan et al. 2024, arXiv 2404.16014v2, section 3.2, eq. 6-8, App. D and G.
Differs from the paper: the paper divides the squared error by d_in, so its l1 coefficient is ours / d_in; it does not state the
initialisation, here W_enc = W_dec^T, b_dec the mean of a sample, and zero vectors unless `init_l0` sets b_gate.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import FROZEN, LIVE, Dictionary, Recon
from assay.dictionaries.base import Config as BaseConfig
from assay.kernels import Above


@config
class Config(BaseConfig):
    """Options of a Gated SAE."""

    l1_coef: float
    """Weight of the L1 penalty on the gate's code; more of it means fewer active latents."""
    init_l0: float | None = None
    """L0 at the start, by biases at a quantile of a sample; biases start at 0 (about half of all latents on) when not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.l1_coef >= 0, "l1_coef", self.l1_coef, "at least 0")
        l0 = self.init_l0
        require(l0 is None or 0 < l0 < self.d_sae, "init_l0", l0, f"between 0 and --d-sae {self.d_sae}")


class Gated(Dictionary):
    Config = Config
    vectors = ("b_gate", "r_mag", "b_mag")
    degree = {"b_gate": 1, "b_mag": 1, "r_mag": 0}
    dead_latents = "resample"  # App. D
    beta1 = 0.0  # App. D

    @property
    def recon(self) -> dict[str, Recon]:
        return {"recon": ("f", LIVE), "aux": ("v", FROZEN)}

    def select(self, p: SimpleNamespace, training: bool) -> Above:
        return Above(-p.b_gate)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        gate = u + p.b_gate
        v = gate.relu()  # eq. 8
        f = (gate > 0) * (p.r_mag.exp() * u + p.b_mag).relu()
        return {"f": f, "v": v}, {"l1": v}

    def weights(self, ramp: float) -> dict[str, float]:
        return {"recon": 1.0, "aux": 1.0, "l1": self.config.l1_coef * ramp}

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        self.init_tied(rng)
        self.b_dec.copy_(y.mean(0))
        if self.config.init_l0 is not None:
            self.get_parameter("b_gate").copy_(-self.firing_threshold(x, self.config.init_l0))
