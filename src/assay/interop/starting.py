"""Training on from a dictionary of another tool: the same codes and outputs in the form that this run trains.

rule        relu, batchtopk and gated become jumprelu where the run trains one
b_dec       subtracted from x, or not, as the run's form does
row norms   folded into encoder and thresholds where training keeps rows at length 1. A top-k chooses by its codes, so its rows
            are folded only where all have the same length; otherwise the choice would change, and it is refused
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from assay.core.errors import BadOption
from assay.dictionaries import Dictionary, class_of
from assay.interop import folding
from assay.interop.layers import Layers
from assay.interop.ours import to_dictionary
from assay.interop.parts import Parts

TO_JUMPRELU = ("relu", "batchtopk", "gated")
EQUAL = 1e-3  # lengths of rows this near to each other are one length


@torch.no_grad()
def as_form(parts: Parts | Layers, config: Any, name: str) -> Dictionary:
    """The dictionary of `parts` in the form of the architecture's `config`; `name` is for what is said to the user."""
    arch = type(config).__module__.rsplit(".", 1)[-1]
    with torch.device("meta"):
        form = class_of(arch)(config)
    parts = folding.plain(parts)
    if parts.rows != "as_is":
        raise BadOption(
            f"--init {name} normalises each row ({parts.rows}); such dictionaries are evaluated, but not trained on here."
        )
    if arch in ("jumprelu", "crosslayer") and parts.rule in TO_JUMPRELU:
        parts = folding.as_jumprelu(parts)
    if isinstance(parts, Parts) and not parts.transcoder:
        parts = folding.pre_bias(parts, form.pre_bias is not None)
    if form.unit_norm:
        parts = parts.each(lambda p: _unit_rows(p, name)) if isinstance(parts, Layers) else _unit_rows(parts, name)
    return to_dictionary(parts)


def _unit_rows(parts: Parts, name: str) -> Parts:
    if parts.rule not in ("topk", "abstopk", "batchtopk"):
        return folding.decoder_norm(parts)
    n = parts.norms
    length = float(n.mean())
    if not float((n / length - 1).abs().max()) <= EQUAL:
        raise BadOption(
            f"--init {name} is a {parts.rule} whose decoder rows have lengths from {float(n.min()):.3g} to {float(n.max()):.3g}; "
            "training keeps rows at length 1, which would change the latents that it chooses. It can be evaluated, but not trained on."
        )
    return replace(  # one length for all: the order of the codes stays
        parts,
        W_enc=parts.W_enc * length,
        W_dec=parts.W_dec / length,
        vectors={vector: values * length for vector, values in parts.vectors.items()},
        threshold=None if parts.threshold is None else parts.threshold * length,
    )
