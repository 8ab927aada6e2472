r"""One architecture written as another, and decoder norms folded into codes. Each returns a new dictionary.

    gated_to_jumprelu       W_enc' = exp(r_mag) W_enc,  b_enc = b_mag,  theta = max(b_mag - exp(r_mag) b_gate, 0)      the same codes
    jumprelu_to_gated       r_mag = 0,  b_mag = b_enc,  b_gate = b_enc - theta                                         the same codes
    relu_to_gated           r_mag = 0,  b_mag = b_gate = b_enc: the start of rescale & shift                           the same codes
    fold_decoder_norm       codes f_i ||W_dec_i||, rows of W_dec of length 1                                           the same output

A Gated SAE may have b_mag - exp(r_mag) b_gate < 0; then its code is a plain ReLU, and so a threshold of 0: without the clamp a
JumpReLU would pass negative codes. Where only one side subtracts b_dec from x, W_enc' b_dec moves into the biases.
"Same" is up to rounding: a pair within rounding of its threshold may change sides.

Source: App. E of arXiv 2404.16014v2; folding: the releases of April 2024 and Gemma Scope (arXiv 2408.05147, App. B).
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.dictionaries.base import Dictionary
from assay.dictionaries.gated import Config as GatedConfig
from assay.dictionaries.gated import Gated
from assay.dictionaries.jumprelu import Config as JumpReluConfig
from assay.dictionaries.jumprelu import JumpRelu
from assay.dictionaries.options import Config
from assay.dictionaries.relu import Relu

Made = TypeVar("Made", bound=Dictionary)


@torch.no_grad()
def gated_to_jumprelu(gated: Gated, *, l0_coef: float = 0.0, **options: Any) -> JumpRelu:
    """The JumpReLU dictionary with the same inference codes; options are those of its Config, for training on."""
    if not gated.config.tie_encoder:
        raise BadInput(
            "A Gated dictionary with untied encoders has two directions a latent, which no JumpReLU has; keep it gated."
        )
    p = gated.params_at()
    e_r = p.r_mag.exp() if "r_mag" in gated.vectors else torch.ones_like(p.b_gate)
    b_mag = p.b_mag if "b_mag" in gated.vectors else e_r * p.b_gate
    shared = {"pre_bias": gated.pre_bias is not None, **_shape(gated)}
    made = JumpRelu(JumpReluConfig(l0_coef=l0_coef, **shared, **options)).to(b_mag)
    theta = (b_mag - e_r * p.b_gate).clamp_min(0)
    _set_theta(made, theta)
    made.get_parameter("b_enc").copy_(b_mag)
    return _adopt(made, gated, e_r)


@torch.no_grad()
def jumprelu_to_gated(jumprelu: JumpRelu, *, l1_coef: float = 0.0, **options: Any) -> Gated:
    """The Gated dictionary with the same inference codes."""
    p = jumprelu.params_at()
    return _as_gated(
        jumprelu, p.b_enc, jumprelu.thresholds(p), GatedConfig(l1_coef=l1_coef, **_shape(jumprelu), **options)
    )


@torch.no_grad()
def relu_to_gated(relu: Relu, *, train: str = "rescale_shift", **options: Any) -> Gated:
    """The Gated dictionary with the same codes, of which by default only r_mag and b_mag will learn (section 5.2)."""
    b_enc = relu.get_parameter("b_enc")
    given: dict[str, Any] = {"l1_coef": relu.config.l1_coef, "train": train, **_shape(relu), **options}
    config = GatedConfig(**given)
    return _as_gated(relu, b_enc, torch.zeros_like(b_enc), config)


def _as_gated(source: Dictionary, b_enc: Tensor, theta: Tensor, config: Any) -> Gated:
    made = Gated(config).to(b_enc)
    if set(made.vectors) != {"b_gate", "r_mag", "b_mag"} or made.extra_encoders or made.extra_decoders:
        raise BadInput(
            "Only a Gated dictionary with r_mag, a free b_mag, a tied encoder and one decoder can hold any threshold; "
            "leave these options out."
        )
    b_enc = b_enc + _moved(source, made)
    made.get_parameter("b_mag").copy_(b_enc)
    made.get_parameter("b_gate").copy_(b_enc - theta)
    return _adopt(made, source, torch.ones_like(b_enc))


@torch.no_grad()
def fold_decoder_norm(dictionary: Dictionary) -> Dictionary:
    """The same output from rows of length 1: codes, biases and thresholds grow by the row's norm; a row of zeros stays."""
    if not isinstance(dictionary, Gated | JumpRelu | Relu) or len(dictionary.blocks) > 1:
        raise BadInput(
            f"Decoder norms can be folded into gated, jumprelu and relu, not into this {dictionary.arch}: its selection would change."
        )
    norm = dictionary.W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    made = type(dictionary)(dictionary.config).to(norm)
    made.load_state_dict(dictionary.state_dict())
    for name in ("W_enc", *made.extra_encoders):
        made.get_parameter(name).mul_(norm)
    for name in ("W_dec", *made.extra_decoders):
        made.get_parameter(name).div_(norm[:, None])
    for name in made.vectors:
        vector = made.get_parameter(name)
        if name == "log_theta":
            vector.add_(norm.log())
        else:
            vector.mul_(norm ** made.degree[name])
    return _described(made, dictionary)


def _shape(dictionary: Dictionary) -> dict[str, Any]:
    """What every Config has, as this dictionary has it."""
    return {field.name: getattr(dictionary.config, field.name) for field in dataclasses.fields(Config)}


def _moved(source: Dictionary, made: Dictionary) -> Tensor | float:
    """What a bias gains when `made` subtracts b_dec from x and `source` does not."""
    return source.b_dec @ source.W_enc if made.pre_bias is not None and source.pre_bias is None else 0.0


def _set_theta(made: JumpRelu, theta: Tensor) -> None:
    if made.config.theta == "log" and not bool((theta > 0).all()):
        raise BadInput("Some thresholds are 0, which log theta cannot say; convert with theta=direct.")
    made.get_parameter(made.theta_name).copy_(theta.log() if made.config.theta == "log" else theta)


def _adopt(made: Made, source: Dictionary, gain: Tensor) -> Made:
    """Give `made` the matrices of `source`, each column of W_enc times gain [d_sae]."""
    for (_, to_enc, to_dec), (block, enc, dec) in zip(made.wired, source.wired, strict=True):
        to_enc.copy_(enc * gain[block.latents])
        to_dec.copy_(dec)
    made.b_dec.copy_(source.b_dec)
    for _, name in made.skips:
        made.get_parameter(name).copy_(source.get_parameter(name))
    return _described(made, source)


def _described(made: Made, source: Dictionary) -> Made:
    made.scale = source.scale
    made.provenance = {**source.provenance, "converted_from": source.arch}
    made.requires_grad_(any(p.requires_grad for p in source.parameters()))
    return made
