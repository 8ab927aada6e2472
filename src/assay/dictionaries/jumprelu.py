r"""JumpReLU sparse autoencoder: a ReLU that starts at a threshold of its own for each latent.

    z    = x W_enc + b_enc                                                        [batch, d_sae]
    f    = jump(z, theta, eps)  = z * 1[z > theta],   on = step(z, theta, eps) = 1[z > theta]               eq. 4, 8
    loss = ||x - (f W_dec + b_dec)||^2 + l0_coef * penalty                                                   eq. 9

jump and step have straight-through derivatives to theta in a window eps wide (`kernels/estimators.py`, eq. 11-12). step gives
nothing to z, so in the paper's loss the penalty trains theta alone. With omega_i = mean over tokens of on_i, L0 = sum_i omega_i:

    penalty = l0         L0                                                                                  eq. 9
              target     (target_slope / l0_target) * (L0 - l0_target)^2
              frequency  sum_i omega_i (1 + omega_i / omega0): for omega_i above omega0 it grows with the square
              tanh       sum_i tanh(tanh_scale * f_i * ||W_dec_i||), rows of W_dec free, to_input on, and
                         + pre_coef * sum_i relu(theta_i - z_i) * ||W_dec_i||, a term of its own

theta = relu(parameter), trained directly, or exp(parameter) with theta = "log": then a step of Adam is theta * lr, and small
thresholds hardly move. The pre-activation term acts on every pair below its threshold, so that instance steps densely.
With pre_bias u = (x - b_dec) W_enc: Gemma Scope trains so, and releases b_enc - W_enc b_dec in place of b_enc.

Scale: the paper's eps = theta_init = .001 belong to E||x||^2 = 1 (`--scale norm1`). Codes are sqrt(d_in) times larger in our
default E x_j^2 = 1, where that is .02 to .06 for d_in of 512 to 3584; there a unit row has u of variance about 1 whatever d_in, and
a latent that fires on 1 % of tokens has a density of about .03 at its threshold, so a batch of 2048 puts 6 tokens into a window of
.1 and a twentieth of one into .001. Hence .1 for both. l0_coef is about the square of the smallest code worth switching on.

Sources: Rajamanoharan et al. 2024, arXiv 2407.14435, section 2-3 (read in quotations, and as restated in arXiv 2408.05147, section
2.2); target: arXiv 2407.14435 and the Gemma Scope 2 report, whose printed constant is target_slope = 2 although its text fits 1/2:
slope l0_coef at L0 = 2 l0_target; frequency: Google DeepMind, "Negative results for SAEs on downstream tasks", 2025, with omega0
from 0.01 to 0.1; tanh: Anthropic, update of January 2025 (read in re-implementations).
Differs from the paper: log theta is an option; thresholds are kept above 0, since relu has no slope below and one that got there
would stay for ever. tanh: W_dec starts from unit rows and W_enc = W_dec^T, and both its terms follow the trainer's warm-up.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import DENSE, SPARSE, Dictionary
from assay.dictionaries.initialisation import firing_threshold, init_tied
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Above, Codes
from assay.kernels.estimators import jump, step
from assay.metrics import mobility

TINY = 1e-6  # where a threshold that would pass 0 stops


@config
class Config(BaseConfig):
    """Options of a JumpReLU SAE."""

    l0_coef: float
    """Weight of the penalty; more of it means fewer active latents. With l0, about the square of the smallest code kept."""
    penalty: Literal["l0", "target", "frequency", "tanh"] = "l0"
    """l0: linear in L0; target: squared distance to l0_target; frequency: squared for frequent latents; tanh: Anthropic 2025."""
    bandwidth: float | None = None
    """Width eps of the window around a threshold in which it learns, in training space; 0.1, or 2 with tanh, when not given."""
    theta: Literal["direct", "log"] = "direct"
    """What the parameter is: the threshold itself, or its logarithm."""
    theta_init: float = 0.1
    """Threshold at the start."""
    init_l0: float | None = None
    """L0 at the start, by biases at a quantile of a sample; biases start at 0 (about half of all latents on) when not given."""
    pre_bias: bool = False
    """Whether b_dec is subtracted from x before the encoder."""
    l0_target: float | None = None
    """The L0 that penalty=target aims at."""
    target_slope: float = 0.5
    """Constant of penalty=target; 1/2 gives slope l0_coef at twice the target."""
    omega0: float = 0.1
    """Firing frequency above which penalty=frequency grows with the square."""
    tanh_scale: float = 4.0
    """The factor c inside tanh, for penalty=tanh."""
    pre_coef: float = 3e-6
    """Weight of the pre-activation term of penalty=tanh, which pulls up latents below their threshold; 0 leaves it out."""
    to_input: bool | None = None
    """Whether pre-activations in the window get the threshold's derivative too; only with tanh when not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("l0_coef", "pre_coef"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("theta_init", "target_slope", "omega0", "tanh_scale", "bandwidth", "l0_target"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "positive")
        l0 = self.init_l0
        require(l0 is None or 0 < l0 < self.d_sae, "init_l0", l0, f"between 0 and --d-sae {self.d_sae}")
        wanted = (self.penalty == "target") == (self.l0_target is not None)
        require(wanted, "l0_target", self.l0_target, "given with --penalty target, and only then")
        fits = self.theta == "direct" or not self.layered
        require(fits, "theta", self.theta, "direct in a crosslayer wiring, where each layer has a scale of its own")
        require(
            not self.pre_bias or self.wiring == "sae",
            "pre_bias",
            self.pre_bias,
            "off, since b_dec lies at another site",
        )

    @property
    def eps(self) -> float:
        return self.bandwidth if self.bandwidth is not None else 2.0 if self.penalty == "tanh" else 0.1


def squared_distance(omega: Tensor, target: float, slope: float) -> Tensor:
    return slope / target * (omega.sum() - target) ** 2


def frequent(omega: Tensor, omega0: float) -> Tensor:
    return (omega * (1 + omega / omega0)).sum()


class JumpRelu(Dictionary):
    Config = Config
    variants = ("wiring", "penalty", "theta", "pre_bias")
    beta1 = 0.0  # arXiv 2408.05147, section 3.2
    exceptions = {"test_initial_shapes_of_the_recipe": "thresholds start at theta_init, which is not 0"}

    def __init__(self, config: Config) -> None:
        self.theta_name = "theta" if config.theta == "direct" else "log_theta"
        self.vectors = ("b_enc", self.theta_name)
        self.degree = {"b_enc": 1, self.theta_name: int(config.theta == "direct")}
        self.logarithms = () if config.theta == "direct" else (self.theta_name,)
        self.uses_dec_norm = config.penalty == "tanh"
        self.reduce = {
            "target": partial(squared_distance, target=config.l0_target or 1.0, slope=config.target_slope),
            "frequency": partial(frequent, omega0=config.omega0),
        }
        if config.theta == "log":
            self.exceptions = {
                **self.exceptions,
                "test_only_degrees_decide": "log theta is shifted by log C, not multiplied",
                "test_a_code_that_is_almost_zero_may_be_zero": "log theta = 0 is a threshold of 1, so no code is almost 0",
            }
        super().__init__(config)

    @property
    def pre_bias(self) -> str | None:
        return super().pre_bias if self.config.pre_bias else None

    @property
    def unit_norm(self) -> bool:
        return self.config.penalty != "tanh"

    @property
    def step(self) -> Literal["sparse", "dense"]:
        return DENSE if self.config.penalty == "tanh" and self.config.pre_coef > 0 else SPARSE

    def thresholds(self, p: SimpleNamespace) -> Tensor:
        return p.theta.relu() if self.config.theta == "direct" else p.log_theta.exp()

    def select(self, p: SimpleNamespace, training: bool) -> Above:
        """Active, or in the window; less the rounding of u + b_enc, so that `pairs` alone decides at the border."""
        theta, eps = self.thresholds(p), self.config.eps
        border = theta - eps / 2 if training else theta
        return Above(border - p.b_enc - 2 * torch.finfo(theta.dtype).eps * (theta + p.b_enc.abs()))

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        o: Config = self.config
        z, theta = u + p.b_enc, self.thresholds(p)
        to_input = o.penalty == "tanh" if o.to_input is None else o.to_input
        f = jump(z, theta, o.eps, to_input=to_input)
        if o.penalty != "tanh":
            return {"f": f}, {o.penalty: step(z, theta, o.eps, to_input=to_input)}
        penalties = {"tanh": (o.tanh_scale * f * p.dec_norm).tanh()}
        if o.pre_coef > 0:
            penalties["pre"] = (theta - z).relu() * p.dec_norm
        return {"f": f}, penalties

    def gains(self, x: Tensor) -> Codes:
        """1 where f is on: the true derivative, without what `to_input` adds for training."""
        codes = self.encode_sparse(x)
        return codes.with_values(torch.ones_like(codes.value))

    def weights(self, ramp: float) -> dict[str, float]:
        o: Config = self.config
        pre = {"pre": o.pre_coef * ramp} if self.step == DENSE else {}
        return {"recon": 1.0, o.penalty: o.l0_coef * ramp, **pre}

    @torch.no_grad()
    def constrain(self) -> None:
        if self.config.theta == "direct":
            self.get_parameter("theta").clamp_(min=TINY)

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        init_tied(self, rng)
        self.b_dec.copy_(y.mean(0))
        theta = torch.tensor(self.config.theta_init)
        self.get_parameter(self.theta_name).copy_(theta if self.config.theta == "direct" else theta.log())
        if self.config.init_l0 is not None:
            self.get_parameter("b_enc").copy_(theta - firing_threshold(self, x, self.config.init_l0))

    @torch.no_grad()
    def diagnose(self, x: Tensor, start: dict[str, Tensor]) -> dict[str, Any]:
        p, eps = self.params_at(), self.config.eps
        theta, before = self.thresholds(p), self.thresholds(SimpleNamespace(**start))
        window = mobility.window_frac(self.pre_activations(x) + p.b_enc, theta, eps)
        moved = mobility.moved_frac(theta, before, eps)
        said = mobility.warning(window, moved, eps, len(x))
        return {"window_frac": window, "moved_frac": moved, **({} if said is None else {"warning": said})}
