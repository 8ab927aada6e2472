"""Folding of scale: the same function in other units, so that what was trained on x / c_in reads raw activations, and back.

x_raw = c_in * x and y_raw = c_out * y, one number a site. Codes scale by one number c for all latents, the site's own (of several
sites the geometric mean), since a joint top-k compares them:

    vectors and states of degree d    x c^d             their logarithms    + log c
    W_enc    x c / c_in (1 for one site)                W_dec    x c_out / c
    b_dec    x c_out                                    W_skip   x c_out / c_in
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.dictionaries.base import Dictionary
from assay.dictionaries.wiring import Scale, along


def rescaled(dictionary: Dictionary, c_in: Scale, c_out: Scale, *, unfold: bool = False) -> dict[str, Tensor]:
    """The state for raw space, of copies; `unfold` goes back. Where each row is normalised by itself nothing changes."""
    config = dictionary.config
    if config.rows != "as_is":
        c_in = c_out = 1.0
    x_scale = along(c_in, config.widths_in if isinstance(c_in, Sequence) else (dictionary.d_in,))
    y_scale = along(c_out, config.widths_out if isinstance(c_out, Sequence) else (dictionary.d_out,))
    if dictionary.pre_bias == "b_dec" and not torch.equal(x_scale, y_scale):
        raise AssertionError("b_dec is also subtracted from x: c_in and c_out must be equal")
    log_c = x_scale.log().mean()
    c = x_scale[0] if bool((x_scale == x_scale[0]).all()) else log_c.exp()
    factors: dict[str, Tensor] = {"b_dec": y_scale, **{name: c**d for name, d in dictionary.degree.items()}}
    for block, (enc, dec) in zip(dictionary.blocks, dictionary.matrix_names, strict=True):
        factors[enc], factors[dec] = (c / x_scale[block.reads])[:, None], y_scale[block.writes] / c
    factors |= {name: y_scale[b.writes] / x_scale[b.reads][:, None] for b, name in dictionary.skips}
    factors |= dict.fromkeys(dictionary.extra_decoders, y_scale / c)
    state = {name: tensor.detach().clone() for name, tensor in dictionary.state_dict().items()}
    for name, factor in factors.items():
        if name not in state:  # a matrix made from other parameters
            assert bool((factor == 1).all()), f"{dictionary.arch} does not say how {name} scales"
            continue
        factor = (1 / factor if unfold else factor).to(state[name].device)
        if not bool((factor == 1).all()):
            state[name] = state[name] * factor.to(state[name].dtype)
    for name in dictionary.logarithms:
        state[name] += (-log_c if unfold else log_c).to(state[name])
    return state
