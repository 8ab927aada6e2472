r"""Gated sparse autoencoder.

    u    = (x - b_dec) W_enc                                       [batch, d_sae]   eq. 6, tied by eq. 7
    f    = 1[u + b_gate > 0] * relu(exp(r_mag) * u + b_mag)        gate times magnitude
    v    = relu(u + b_gate)                                        the gate's own ReLU code
    loss = ||x - (f W_dec + b_dec)||^2 + l1_coef * sum_i v_i + ||x - (v sg[W_dec] + sg[b_dec])||^2        eq. 8

sg is stop-gradient: the auxiliary reconstruction trains the gate through a decoder that it cannot move. x - b_dec in the encoder
is not stopped, so l1 and aux do reach b_dec there (as in the paper's pseudo-code, App. G). All sums run over features; the mean
runs over tokens. The rows of W_dec are kept at length 1. Variants, each an option:

    aux_decoder = live      no sg in eq. 8                                                                section 5.1
    r_mag = off             r_mag = 0: gate and magnitude differ by a shift alone                         section 5.1
    tie_encoder = False     f = 1[u + b_gate > 0] * relu((x - b_dec) W_mag + b_mag); W_enc is the gate's  section 5.1
    b_mag = tied            b_mag = exp(r_mag) * b_gate, so f = exp(r_mag) * v: a rescaled ReLU without a jump
    train = rescale_shift   r_mag and b_mag learn from ||x - x_hat||^2 alone, all else stays as it is     section 5.2

What a variant fixes is no parameter. Rescale & shift starts from a trained ReLU dictionary by `--init` (`conversions.relu_to_gated`).
With untied encoders f depends on x W_mag, which is no function of u, so that instance steps densely.

Source: Rajamanoharan et al. 2024, arXiv 2404.16014v2, section 3.2, eq. 6-8, App. D and G; b_mag = tied: a remark of its authors.
Differs from the paper: the paper divides the squared error by d_in, so its l1 coefficient is ours / d_in; it does not state the
initialisation, here W_enc = W_dec^T, b_dec the mean of a sample, and zero vectors unless `init_l0` sets b_gate.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import DENSE, FROZEN, LIVE, SPARSE, Dictionary, Recon
from assay.dictionaries.base import Config as BaseConfig
from assay.kernels import Above, Codes


@config
class Config(BaseConfig):
    """Options of a Gated SAE."""

    l1_coef: float
    """Weight of the L1 penalty on the gate's code; more of it means fewer active latents."""
    init_l0: float | None = None
    """L0 at the start, by biases at a quantile of a sample; biases start at 0 (about half of all latents on) when not given."""
    aux_decoder: Literal["frozen", "live"] = "frozen"
    """Whether the auxiliary reconstruction may move the decoder; the paper's may not."""
    r_mag: Literal["on", "off"] = "on"
    """Whether the magnitude has a scale of its own."""
    b_mag: Literal["free", "tied"] = "free"
    """Whether the magnitude has a bias of its own, or exp(r_mag) times the gate's, which removes the jump."""
    tie_encoder: bool = True
    """Whether gate and magnitude share one encoder matrix; the second one of an untied encoder replaces r_mag."""
    train: Literal["all", "rescale_shift"] = "all"
    """What learns: everything, or only r_mag and b_mag on top of a frozen dictionary."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.l1_coef >= 0, "l1_coef", self.l1_coef, "at least 0")
        l0 = self.init_l0
        require(l0 is None or 0 < l0 < self.d_sae, "init_l0", l0, f"between 0 and --d-sae {self.d_sae}")
        single = self.wiring in ("sae", "transcoder") and self.in_sites is None
        require(self.tie_encoder or single, "tie_encoder", self.tie_encoder, "True where several sites are read")
        require(self.train == "all" or self.wiring != "crosslayer", "train", self.train, "all in a crosslayer wiring")
        whole = self.tie_encoder and self.r_mag == "on"
        require(whole or self.b_mag == "free", "b_mag", self.b_mag, "free without r_mag or with an untied encoder")
        plain = (whole and self.b_mag == "free") or self.train == "all"
        require(plain, "train", self.train, "all, unless r_mag is on, b_mag free and the encoder tied")


class Gated(Dictionary):
    Config = Config
    variants = ("wiring", "aux_decoder", "tie_encoder", "r_mag", "b_mag", "train")
    beta1 = 0.0  # App. D

    def __init__(self, config: Config) -> None:
        scaled = config.r_mag == "on" and config.tie_encoder
        self.vectors = ("b_gate", *(("r_mag",) * scaled), *(("b_mag",) * (config.b_mag == "free")))
        self.degree = {name: 0 if name == "r_mag" else 1 for name in self.vectors}
        self.extra_encoders = () if config.tie_encoder else ("W_mag",)
        self.learns_all = config.train == "all"
        self.frozen = () if self.learns_all else ("W_enc", "W_dec", "b_dec", "b_gate", *(("W_skip",) * config.skip))
        self.dead_latents = "resample" if self.learns_all else None  # App. D
        if not config.tie_encoder:
            self.exceptions = {
                "test_gains_are_finite_differences": "gains belong to W_mag, which encoder_vector gives",
                "test_vectors_of_a_latent": "encoder_vector is a column of W_mag",
                "test_pairs_do_not_depend_on_shape": "pairs also need x W_mag",
                "test_a_stated_l0_at_the_start_is_met": "pairs also need x W_mag",
                "test_a_code_that_is_almost_zero_may_be_zero": "a small column of W_enc makes no small code",
            }
        super().__init__(config)

    @property
    def recon(self) -> dict[str, Recon]:
        if not self.learns_all:
            return {"recon": ("f", LIVE)}
        return {"recon": ("f", LIVE), "aux": ("v", FROZEN if self.config.aux_decoder == "frozen" else LIVE)}

    @property
    def step(self) -> Literal["sparse", "dense"]:
        return SPARSE if self.config.tie_encoder else DENSE

    def select(self, p: SimpleNamespace, training: bool) -> Above:
        return Above(-p.b_gate)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        gate = u + p.b_gate
        v = gate.relu()  # eq. 8
        e_r = p.r_mag.exp() if "r_mag" in self.vectors else 1.0
        b_mag = p.b_mag if "b_mag" in self.vectors else e_r * p.b_gate
        f = (gate > 0) * (e_r * (u if self.config.tie_encoder else p.u_mag) + b_mag).relu()
        return {"f": f, "v": v}, {"l1": v} if self.learns_all else {}

    def weights(self, ramp: float) -> dict[str, float]:
        return {"recon": 1.0, "aux": 1.0, "l1": self.config.l1_coef * ramp} if self.learns_all else {"recon": 1.0}

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        self.init_tied(rng)
        self.b_dec.copy_(y.mean(0))
        if not self.config.tie_encoder:
            self.get_parameter("W_mag").copy_(self.W_enc)
        if self.config.init_l0 is not None:
            self.get_parameter("b_gate").copy_(-self.firing_threshold(x, self.config.init_l0))

    # ---- untied encoders: f also reads x W_mag ---------------------------------------------------------------------

    def _dense_codes(
        self, x: Tensor, training: bool, progress: float = 1.0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        if self.config.tie_encoder:
            return super()._dense_codes(x, training, progress)
        u, p = self.pre_activations(x), self.params_at(progress=progress)
        p.u_mag = self.centred(x) @ self.get_parameter("W_mag")
        return *self.pairs(u, p), u + p.b_gate > 0

    @torch.no_grad()
    def encode_sparse(self, x: Tensor, *, training: bool = False) -> Codes:
        if self.config.tie_encoder:
            return super().encode_sparse(x, training=training)
        return Codes.of(self._dense_codes(self.rows_of(x), training)[0]["f"])

    def gains(self, x: Tensor) -> Codes:
        if self.config.tie_encoder:
            return super().gains(x)
        codes = self.encode_sparse(x)
        return codes.with_values(torch.ones_like(codes.value))

    def encoder_vector(self, i: int) -> Tensor:
        return super().encoder_vector(i) if self.config.tie_encoder else self.get_parameter("W_mag")[:, i]
