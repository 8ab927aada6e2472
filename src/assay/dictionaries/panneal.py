r"""Sparse autoencoder trained by p-annealing: the penalty goes from L1 towards L0 along the run.

    f    = relu((x - b_dec) W_enc + b_enc),   rows of W_dec kept at length 1
    loss = ||x - (f W_dec + b_dec)||^2 + lp_coef * rescale * sum_i f_i^p

    p       1 before anneal_start; then anneal_steps equal steps down to p_end, the j-th at the moment
            anneal_start + (j - 1) (anneal_end - anneal_start) / anneal_steps of the run
    rescale 1 at first; when p goes from p_old to p_new it is multiplied by  mean(sum_i f_i^p_old) / mean(sum_i f_i^p_new)  over the
            last WINDOW batches before the change, so that the penalty stays as large as it was

f^p has an infinite slope at 0 where p < 1. Below FLOOR the power is therefore replaced by its chord from 0, FLOOR^(p-1) f:
the value is exact from FLOOR on and the slope at most FLOOR^(p-1); a latent that is off has slope 0, by the relu.

State (changed in `observe` alone): `rescale`, and `recent` [2, WINDOW], the means of sum_i f_i^p over the last batches for the
present p (row 0) and the next one (row 1), 0 where no batch was seen since the last change. Both are numbers of the run in training
space and play no part in encoding.

Source: Karvonen et al. 2024, NeurIPS, "Measuring Progress in Dictionary Learning ...", section 4, through a library's code
(n = 10 steps, the last 10 batches, p_end = 0.2 as in SAEBench).
Differs from the paper: start and end are shares of the run, not steps; the chord below FLOOR; the means of the two powers are kept
while batches pass, so if p changes again in under WINDOW batches only those since the last change count, and if it takes several
steps down between two batches only the last batch.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import Dictionary
from assay.dictionaries.initialisation import firing_threshold, init_tied
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Above, Codes

FLOOR = 1e-3  # in training space
WINDOW = 10


@config
class Config(BaseConfig):
    """Options of a p-annealed SAE."""

    lp_coef: float
    """Weight of the penalty while p = 1; more of it means fewer active latents."""
    p_end: float = 0.2
    """The exponent at the end."""
    anneal_start: float = 0.1
    """Fraction of the run at which the exponent first falls below 1."""
    anneal_end: float = 1.0
    """Fraction of the run at which the annealing ends; the last step down is one step's length before."""
    anneal_steps: int = 10
    """In how many equal steps the exponent falls."""
    init_l0: float | None = None
    """L0 at the start, by biases at a quantile of a sample; biases start at 0 (about half of all latents on) when not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lp_coef >= 0, "lp_coef", self.lp_coef, "at least 0")
        require(0 < self.p_end <= 1, "p_end", self.p_end, "above 0 and at most 1")
        require(0 <= self.anneal_start <= 1, "anneal_start", self.anneal_start, "a fraction between 0 and 1")
        start = self.anneal_start
        require(start < self.anneal_end <= 1, "anneal_end", self.anneal_end, f"above --anneal-start {start}, at most 1")
        require(self.anneal_steps > 0, "anneal_steps", self.anneal_steps, "positive")
        l0 = self.init_l0
        require(l0 is None or 0 < l0 < self.d_sae, "init_l0", l0, f"between 0 and --d-sae {self.d_sae}")


class Panneal(Dictionary):
    Config = Config
    vectors = ("b_enc",)
    degree = {"b_enc": 1, "rescale": 0, "recent": 0}
    dead_latents = "resample"
    beta1 = 0.0  # as `relu.py`
    exceptions = {
        "test_verify_catches_every_altered_parameter": "rescale and recent belong to the run, no code depends on them",
    }

    rescale: Tensor
    recent: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.register_buffer("rescale", torch.ones(()))
        self.register_buffer("recent", torch.zeros(2, WINDOW))

    def n_down(self, progress: float) -> int:
        """How many steps the exponent has taken at this moment of the run."""
        o = self.config
        if progress < o.anneal_start:
            return 0
        passed = o.anneal_steps * (progress - o.anneal_start) / (o.anneal_end - o.anneal_start)
        return min(o.anneal_steps, 1 + int(passed + 1e-9))  # (.6 - .2) / .6 * 3 is 1.9999999999999998

    def exponent(self, n_down: int) -> float:
        return 1.0 - (1.0 - self.config.p_end) * min(n_down, self.config.anneal_steps) / self.config.anneal_steps

    def schedule(self, progress: float) -> dict[str, float]:
        down = self.n_down(progress)
        return {"p": self.exponent(down), "rescale": float(self.rescale) if down else 1.0}

    def select(self, p: SimpleNamespace, training: bool) -> Above:
        return Above(-p.b_enc)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        f = (u + p.b_enc).relu()
        return {"f": f}, {"lp": p.rescale * power(f, p.p)}

    def weights(self, ramp: float) -> dict[str, float]:
        return {"recon": 1.0, "lp": self.config.lp_coef * ramp}

    @torch.no_grad()
    def observe(self, codes: Codes, step: int) -> None:
        """Note the two powers of this batch; where the next step has a new exponent, adjust `rescale` to it."""
        now, after = self.n_down(step / self.n_steps), self.n_down((step + 1) / self.n_steps)
        if now == 0:
            self.rescale.fill_(1.0)  # a dictionary that was trained before starts its own annealing
        if step == 0 or after > now + 1:  # several steps down at once: of the earlier batches another power is known
            self.recent.zero_()
        for row, down in enumerate((now, after if after > now else now + 1)):
            self.recent[row, step % WINDOW] = power(codes.value, self.exponent(down)).sum() / max(codes.shape[0], 1)
        if after > now:
            old, new = self.recent.sum(1).tolist()
            if old > 0 and new > 0:
                self.rescale *= old / new
            self.recent.zero_()

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        init_tied(self, rng)
        self.b_dec.copy_(y.mean(0))
        if self.config.init_l0 is not None:
            self.get_parameter("b_enc").copy_(-firing_threshold(self, x, self.config.init_l0))


def power(f: Tensor, p: float) -> Tensor:
    """f^p of codes f >= 0, with the chord FLOOR^(p-1) f below FLOOR: finite slopes, and 1 f where p = 1."""
    return f * f.clamp_min(FLOOR).pow(p - 1)
