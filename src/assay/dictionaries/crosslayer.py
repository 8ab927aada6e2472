r"""Cross-layer transcoder (CLT): latents that read one layer and write to it and to all later ones.

    z^l     = x^l W_enc^l + b_enc^l,   f^l = z^l * 1[z^l > theta^l]                          l = 0 .. L-1
    y_hat^m = sum over l <= m of f^l W_dec^{l->m} + b_dec^m
    loss    = sum_m ||y^m - y_hat^m||^2 + l0_coef * sum_{l,i} tanh(tanh_scale * f^l_i * ||W_dec^l_i||)

x concatenates what the MLPs read, y what they write, each layer in a scale of its own; W_dec^l_i is the row of latent i over all the
layers it writes to, and decoders to earlier layers are not stored. d_sae counts the latents of all layers. Other activation rules
make cross-layer transcoders too: `--arch batchtopk --site mlp_in.0,mlp_in.1 --target mlp_out.0,mlp_out.1`.

Source: Ameisen, Lindsey et al. 2025, "Circuit tracing", as described in two code bases; the page itself was not read.
Differs from the paper: W_enc starts at random columns and W_dec at random unit rows; the pre-activation term for dead latents is
off (`pre_coef`), with which the step would be dense.
"""

from __future__ import annotations

from typing import Literal

from assay.core.config import config
from assay.dictionaries.jumprelu import Config as JumpReluConfig
from assay.dictionaries.jumprelu import JumpRelu


@config
class Config(JumpReluConfig):
    """Options of a cross-layer transcoder: those of jumprelu."""

    wiring: Literal["crosslayer"] = "crosslayer"
    """How it is wired: always as a cross-layer transcoder."""
    penalty: Literal["l0", "target", "frequency", "tanh"] = "tanh"
    """The penalty, as in jumprelu; tanh is the published one."""
    pre_coef: float = 0.0
    """Weight of the pre-activation term, which pulls up latents below their threshold; it makes the step dense."""


class CrossLayer(JumpRelu):
    Config = Config
