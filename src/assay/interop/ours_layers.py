"""Between `Layers` and our own dictionaries of several layers (`wiring` crosslayer or perlayer), both ways; `ours.py` calls these."""

from __future__ import annotations

from typing import Any

import torch

from assay.core.errors import BadInput
from assay.dictionaries import Dictionary, class_of
from assay.dictionaries.batchtopk import Batchtopk
from assay.interop import folding
from assay.interop.layers import Layers
from assay.interop.parts import Parts


@torch.no_grad()
def to_layered(layers: Layers) -> Dictionary:
    """Our dictionary with the codes and the output of `layers`; weights of penalties are 0, since no file says them."""
    made_of = folding.plain(layers)
    if made_of.rule == "batchtopk" and made_of.threshold is None:  # each layer has its own
        made_of = folding.as_jumprelu(made_of)
    n = {p.d_sae for p in made_of.parts}
    if len(n) > 1:
        raise BadInput(
            f"The layers have {[p.d_sae for p in made_of.parts]} latents; assay holds as many in each layer."
        )
    skip = any(p.W_skip is not None for p in made_of.parts)
    arch, options = _named(made_of)
    cls = class_of(arch)
    config = cls.Config(
        d_in=made_of.d_in,
        d_sae=made_of.d_sae,
        d_out=made_of.d_out,
        wiring=made_of.wiring,
        in_sites=tuple(p.d_in for p in made_of.parts),
        out_sites=made_of.widths,
        skip=skip,
        **options,
    )
    made = cls(config).to(made_of.parts[0].W_enc.dtype)
    for part, (_, W_enc, W_dec) in zip(made_of.parts, made.wired, strict=True):
        W_enc.copy_(part.W_enc)
        W_dec.copy_(part.W_dec)
    for part, (_, name) in zip(made_of.parts, made.skips, strict=False):
        if part.W_skip is not None:
            made.get_parameter(name).copy_(part.W_skip)
    made.b_dec.copy_(made_of.b_dec)
    for name, vector in made_of.vectors.items():
        made.get_parameter(name).copy_(vector.relu() if name == "theta" else vector)  # below 0 it is a plain ReLU
    if isinstance(made, Batchtopk):
        made.threshold.fill_(made_of.threshold or 0.0)
    made.requires_grad_(False)
    made.provenance = dict(layers.facts)
    return made


def _named(layers: Layers) -> tuple[str, dict[str, Any]]:
    """The architecture and its options."""
    if layers.rule == "relu":
        return "relu", {"l1_coef": 0.0, "decoder_norm": "free"}
    if layers.rule == "jumprelu":
        return ("crosslayer" if layers.crosses else "jumprelu"), {"l0_coef": 0.0}
    if layers.rule == "gated":
        return "gated", {"l1_coef": 0.0}
    if layers.rule == "batchtopk":
        return "batchtopk", {"k": layers.k or 1}
    return layers.rule, {"k": layers.k, "scope": "block"}


def from_layered(exported: Dictionary, rule: dict[str, Any]) -> Layers:
    """The layers of a dictionary in raw space whose rule is known."""
    if rule["rule"] in ("topk", "abstopk") and getattr(exported.config, "scope", "all") == "all":
        raise BadInput(
            f"This {exported.arch} dictionary chooses its k among the latents of all layers together, and every other format "
            "chooses in each layer by itself; it stays in assay's own format."
        )
    skips = [exported.get_parameter(name).detach().clone() for _, name in exported.skips]
    crosses = exported.config.wiring == "crosslayer"
    parts: list[Parts] = []
    starts = [0]
    for width in exported.config.widths_out:
        starts.append(starts[-1] + width)
    for i, (block, W_enc, W_dec) in enumerate(exported.wired):
        b_dec = torch.zeros(W_dec.shape[1], dtype=W_dec.dtype)
        own = exported.config.widths_out[i]
        b_dec[:own] = exported.b_dec[starts[i] : starts[i] + own]
        vectors = {name: vector[block.latents] for name, vector in rule["vectors"].items()}
        here: dict[str, Any] = {**rule, "vectors": vectors, "groups": ()}
        parts.append(
            Parts(
                **here,
                W_enc=W_enc.detach().clone(),
                W_dec=W_dec.detach().clone(),
                b_dec=b_dec.detach(),
                transcoder=True,
                W_skip=skips[i] if skips else None,
            )
        )
    return Layers(tuple(parts), tuple(exported.config.widths_out), crosses, facts=dict(exported.provenance))
