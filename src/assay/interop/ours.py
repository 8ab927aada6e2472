"""Between `Parts` and our own dictionaries, both ways.

to_dictionary(parts) -> Dictionary        in raw space, its scale folded, what is known of it in `.provenance`
from_dictionary(dictionary) -> Parts      refused in one sentence where the codes are not one of the six rules
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.dictionaries import Dictionary, class_of
from assay.dictionaries.abstopk import Abstopk
from assay.dictionaries.batchtopk import Batchtopk
from assay.dictionaries.gated import Gated
from assay.dictionaries.jumprelu import JumpRelu
from assay.dictionaries.matryoshka import Matryoshka
from assay.dictionaries.panneal import Panneal
from assay.dictionaries.raw import Raw
from assay.dictionaries.relu import Relu
from assay.dictionaries.rescaling import rescaled
from assay.dictionaries.topk import Topk
from assay.interop import folding
from assay.interop.golden import inputs
from assay.interop.layers import Layers
from assay.interop.ours_layers import from_layered, to_layered
from assay.interop.parts import Parts

ONE_PAIR_OF_SITES = ("sae", "transcoder")
LAYERED = ("crosslayer", "perlayer")


@torch.no_grad()
def to_dictionary(parts: Parts | Layers) -> Dictionary:
    """Our dictionary with the codes and the output of `parts`; weights of penalties are 0, since no file says them."""
    if isinstance(parts, Layers):
        return to_layered(parts)
    p = folding.plain(parts)
    shape: dict[str, Any] = {"d_in": p.d_in, "d_sae": p.d_sae}
    if p.rows != "as_is":
        shape["rows"] = p.rows
    if p.transcoder or p.d_in != p.d_out or p.W_skip is not None:
        shape |= {"d_out": p.d_out, "wiring": "transcoder", "skip": p.W_skip is not None}
    sae = "wiring" not in shape
    if not sae:
        p = folding.pre_bias(p, False)
    elif p.rule not in ("jumprelu", "relu"):  # the classes of the other rules always subtract b_dec
        p = folding.pre_bias(p, True)
    arch, options = _named(p, sae)
    made = class_of(arch)(class_of(arch).Config(**shape, **options)).to(p.W_enc.dtype)
    made.W_enc.copy_(p.W_enc)
    made.W_dec.copy_(p.W_dec)
    made.b_dec.copy_(p.b_dec)
    for name, vector in p.vectors.items():
        made.get_parameter(name).copy_(vector.relu() if name == "theta" else vector)  # below 0 it is a plain ReLU
    if p.W_skip is not None:
        made.W_skip.copy_(p.W_skip)
    if isinstance(made, Batchtopk):
        made.threshold.fill_(p.threshold or 0.0)
    made.requires_grad_(False)
    made.provenance = dict(parts.facts)
    return made


def _named(p: Parts, sae: bool) -> tuple[str, dict[str, Any]]:
    """The architecture and its options."""
    if p.rule == "relu":
        if not sae:
            return "transcoder", {"l1_coef": 0.0}
        return "relu", {"l1_coef": 0.0, "decoder_norm": "unit" if p.subtracts else "free"}
    if p.rule == "gated":
        return "gated", {"l1_coef": 0.0}
    if p.rule == "jumprelu":
        return "jumprelu", {"l0_coef": 0.0, "pre_bias": p.subtracts}
    if p.rule == "batchtopk":
        k = {"k": p.k or 1}
        return ("matryoshka", {**k, "groups": tuple(map(float, p.groups))}) if p.groups else ("batchtopk", k)
    return "skip_transcoder" if p.rule == "topk" and p.W_skip is not None else p.rule, {"k": p.k}


@torch.no_grad()
def from_dictionary(dictionary: Dictionary) -> Parts | Layers:
    """The parts of a dictionary in raw space; its codes are compared on a few rows, so a rule that does not fit is refused."""
    wiring = dictionary.config.wiring
    if wiring not in (*ONE_PAIR_OF_SITES, *LAYERED):
        raise BadInput(
            f"This {dictionary.arch} dictionary is wired as a {wiring} over several sites; the formats here hold one site "
            "(or one that is read and one that is predicted), so it stays in assay's own format."
        )
    exported = type(dictionary)(dictionary.config).to(dictionary.b_dec.dtype)
    exported.load_state_dict(rescaled(dictionary, *dictionary.scale))
    rule = _rule(exported)
    parts = from_layered(exported, rule) if wiring in LAYERED else _one(exported, rule)
    parts = replace(parts, facts=dict(dictionary.provenance))
    x = inputs(parts, 8).to(exported.b_dec.dtype)
    ours, theirs = exported.encode_sparse(x).dense(), parts.codes(x)
    if float((ours - theirs).abs().max()) > 1e-3 * float(ours.abs().max().clamp_min(1e-6)):
        raise BadInput(
            f"The codes of {dictionary.arch} are not those of a plain {parts.rule}, so no other format holds them; "
            "it stays in assay's own format."
        )
    return parts


def _one(exported: Dictionary, rule: dict[str, Any]) -> Parts:
    """The parts of a dictionary of one block."""
    return Parts(
        **rule,
        W_enc=exported.W_enc.detach().clone(),
        W_dec=exported.W_dec.detach().clone(),
        b_dec=exported.b_dec.detach().clone(),
        subtracts=exported.pre_bias is not None,
        transcoder=exported.config.wiring == "transcoder",
        rows=exported.config.rows,
        W_skip=exported.W_skip.detach().clone() if exported.skip else None,
    )


def _rule(d: Dictionary) -> dict[str, Any]:
    """`rule`, `vectors`, `k`, `threshold` and `groups` of an exported dictionary."""
    p = d.params_at()

    def own(**vectors: Tensor) -> dict[str, Tensor]:
        return {name: vector.detach().clone() for name, vector in vectors.items()}

    if isinstance(d, Gated):
        if d.extra_encoders:
            raise BadInput(
                "Its gate and its magnitude have encoders of their own (tie_encoder=False), which no format holds."
            )
        r_mag = p.r_mag if "r_mag" in d.vectors else torch.zeros_like(p.b_gate)
        b_mag = p.b_mag if "b_mag" in d.vectors else r_mag.exp() * p.b_gate
        return {"rule": "gated", "vectors": own(b_gate=p.b_gate, r_mag=r_mag, b_mag=b_mag)}
    if isinstance(d, JumpRelu):
        return {"rule": "jumprelu", "vectors": own(b_enc=p.b_enc, theta=d.thresholds(p))}
    if isinstance(d, Relu | Panneal):
        return {"rule": "relu", "vectors": own(b_enc=p.b_enc)}
    if isinstance(d, Batchtopk):
        ends = d.config.prefixes if isinstance(d, Matryoshka) else ()
        groups = tuple(end - start for start, end in zip((0, *ends), ends, strict=False))
        threshold = float(d.threshold)
        return {
            "rule": "batchtopk",
            "vectors": own(b_enc=p.b_enc),
            "k": d.config.k,
            "threshold": threshold,
            "groups": groups,
        }
    if isinstance(d, Topk):
        rule = "abstopk" if isinstance(d, Abstopk) else "topk"
        return {"rule": rule, "vectors": own(b_enc=p.b_enc), "k": d.config.k}
    if isinstance(d, Raw):  # raw and pca
        return {"rule": "abstopk", "vectors": own(b_enc=torch.zeros_like(d.W_enc[0])), "k": d.config.k}
    raise BadInput(
        f"{d.arch} has no encoder that is one matrix and a rule per latent, so no other format holds it; "
        "it stays in assay's own format."
    )
