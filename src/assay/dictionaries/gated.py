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

Other tasks in the place of the auxiliary reconstruction, which its authors did not explore; g = u + b_gate:

    auxiliary = none              no third term: b_gate learns from the penalty alone, so it only closes
    auxiliary = straight_through  no third term: the first one reaches the gate by d 1[g > 0] / d g := 1[|g| < eps/2] / eps
    auxiliary = l0                the same, and the penalty is l1_coef * sum_i 1[g_i > 0], with the same derivative
    auxiliary = own_decoder       the third term is ||x - (v W_aux + sg[b_dec])||^2; rows of W_aux are kept at length 1

What a variant fixes is no parameter. Rescale & shift starts from a trained ReLU dictionary by `--init` (`conversions.relu_to_gated`).
With untied encoders f depends on x W_mag, which is no function of u, so that instance steps densely.

Source: Rajamanoharan et al. 2024, arXiv 2404.16014v2, section 3.2, eq. 6-8, App. D and G; b_mag = tied: a remark of its authors.
The estimator is the rectangle of arXiv 2407.14435 (`kernels/estimators.py`); `auxiliary` has no source.
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
from assay.dictionaries.initialisation import firing_threshold, init_tied
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Above, Codes
from assay.kernels.estimators import step


@config
class Config(BaseConfig):
    """Options of a Gated SAE."""

    l1_coef: float
    """Weight of the L1 penalty on the gate's code (of its L0 with auxiliary l0); more of it means fewer active latents."""
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
    auxiliary: Literal["frozen", "none", "straight_through", "l0", "own_decoder"] = "frozen"
    """What teaches the gate: a reconstruction by the frozen decoder, as in the paper, or by a decoder of its own; the main
    reconstruction through an estimator, with an L1 or an L0 penalty; or the penalty alone."""
    bandwidth: float = 0.1
    """Width of the estimator's window around a closed gate; of straight_through and l0 only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.l1_coef >= 0, "l1_coef", self.l1_coef, "at least 0")
        l0 = self.init_l0
        require(l0 is None or 0 < l0 < self.d_sae, "init_l0", l0, f"between 0 and --d-sae {self.d_sae}")
        single = self.wiring in ("sae", "transcoder") and self.in_sites is None
        require(self.tie_encoder or single, "tie_encoder", self.tie_encoder, "True where several sites are read")
        require(self.train == "all" or not self.layered, "train", self.train, "all in a crosslayer wiring")
        whole = self.tie_encoder and self.r_mag == "on"
        require(whole or self.b_mag == "free", "b_mag", self.b_mag, "free without r_mag or with an untied encoder")
        plain = (whole and self.b_mag == "free") or self.train == "all"
        require(plain, "train", self.train, "all, unless r_mag is on, b_mag free and the encoder tied")
        given, papers = self.auxiliary, self.auxiliary == "frozen"
        require(papers or self.train == "all", "auxiliary", given, "frozen with --train rescale_shift, which has none")
        both = papers or self.aux_decoder == "frozen"
        require(both, "auxiliary", given, "frozen with --aux-decoder live, which says what the paper's task may move")
        one = given != "own_decoder" or not self.layered
        require(one, "auxiliary", given, "another than own_decoder in a crosslayer wiring")
        require(self.bandwidth > 0, "bandwidth", self.bandwidth, "positive")


class Gated(Dictionary):
    Config = Config
    variants = ("wiring", "aux_decoder", "tie_encoder", "r_mag", "b_mag", "train", "auxiliary")
    beta1 = 0.0  # App. D

    def __init__(self, config: Config) -> None:
        scaled = config.r_mag == "on" and config.tie_encoder
        self.vectors = ("b_gate", *(("r_mag",) * scaled), *(("b_mag",) * (config.b_mag == "free")))
        self.degree = {name: 0 if name == "r_mag" else 1 for name in self.vectors}
        self.extra_encoders = () if config.tie_encoder else ("W_mag",)
        self.extra_decoders = ("W_aux",) if config.auxiliary == "own_decoder" else ()
        self.estimates = config.auxiliary in ("straight_through", "l0")
        self.penalty = "l0" if config.auxiliary == "l0" else "l1"
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
        paper = FROZEN if self.config.aux_decoder == "frozen" else LIVE
        aux = {"frozen": paper, "own_decoder": "W_aux"}.get(self.config.auxiliary) if self.learns_all else None
        return {"recon": ("f", LIVE)} if aux is None else {"recon": ("f", LIVE), "aux": ("v", aux)}

    @property
    def step(self) -> Literal["sparse", "dense"]:
        return SPARSE if self.config.tie_encoder else DENSE

    def select(self, p: SimpleNamespace, training: bool) -> Above:
        if not (self.estimates and training):
            return Above(-p.b_gate)
        half = self.config.bandwidth / 2  # the window too; less the rounding of u + b_gate, so that `pairs` decides
        return Above(-p.b_gate - half - 2 * torch.finfo(p.b_gate.dtype).eps * (half + p.b_gate.abs()))

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        gate = u + p.b_gate
        v = gate.relu()  # eq. 8
        on = step(gate, u.new_zeros(()), self.config.bandwidth, to_input=True) if self.estimates else gate > 0
        e_r = p.r_mag.exp() if "r_mag" in self.vectors else 1.0
        b_mag = p.b_mag if "b_mag" in self.vectors else e_r * p.b_gate
        f = on * (e_r * (u if self.config.tie_encoder else p.u_mag) + b_mag).relu()
        return {"f": f, "v": v}, {self.penalty: on if self.penalty == "l0" else v} if self.learns_all else {}

    def weights(self, ramp: float) -> dict[str, float]:
        penalty = {self.penalty: self.config.l1_coef * ramp} if self.learns_all else {}
        return dict.fromkeys(self.recon, 1.0) | penalty

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        init_tied(self, rng)
        self.b_dec.copy_(y.mean(0))
        if not self.config.tie_encoder:
            self.get_parameter("W_mag").copy_(self.W_enc)
        for name in self.extra_decoders:
            self.get_parameter(name).copy_(self.W_dec)
        if self.config.init_l0 is not None:
            self.get_parameter("b_gate").copy_(-firing_threshold(self, x, self.config.init_l0))

    def gains(self, x: Tensor) -> Codes:
        """exp(r_mag) where f is on: the true derivative, without what an estimator adds for training."""
        codes = self.encode_sparse(x)
        if "r_mag" not in self.vectors:
            return codes.with_values(torch.ones_like(codes.value))
        return codes.with_values(self.get_parameter("r_mag").detach().exp()[codes.latent])

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

    def encoder_vector(self, i: int) -> Tensor:
        return super().encoder_vector(i) if self.config.tie_encoder else self.get_parameter("W_mag")[:, i]
