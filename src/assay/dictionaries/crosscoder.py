r"""Crosscoder: one set of latents for several sites, or for the same site of several models.

    f       = relu(sum_s x_s W_enc_s + b_enc)
    x_hat_s = f W_dec_s + b_dec_s
    loss    = sum_s ||x_s - x_hat_s||^2 + l1_coef * sum_i f_i sum_s ||W_dec_s,i||

x concatenates the sites, each in a scale of its own. The L1 penalty is known to make latents look as if they belonged to one
site only (complete shrinkage, latent decoupling: arXiv 2504.02922); `--arch batchtopk --arch.wiring crosscoder` is the remedy.

Source: Lindsey et al. 2024, "Sparse crosscoders", as described in two independent code bases; the page itself was not read.
Differs from the paper: nothing known.
"""

from __future__ import annotations

from typing import Literal

from assay.core.config import config
from assay.dictionaries.relu import Config as ReluConfig
from assay.dictionaries.relu import Relu


@config
class Config(ReluConfig):
    """Options of a crosscoder: those of relu."""

    decoder_norm: Literal["unit", "free"] = "free"
    """free: the penalty weighs each latent by its rows' length; unit: rows of W_dec are kept at length 1."""
    wiring: Literal["crosscoder"] = "crosscoder"
    """How it is wired: always as a crosscoder."""


class Crosscoder(Relu):
    Config = Config
    role = "method"
