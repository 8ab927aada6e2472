"""HypotheSAEs: one .pt file with {"config": {...}, "state_dict": {...}}.

    f     = TopK(relu((x - input_bias) encoder.weight^T + neuron_bias)), or with use_batch_topk  relu(pre) 1[relu(pre) > threshold]
    x_hat = f decoder.weight^T + input_bias

encoder.weight [d_sae, d_in], decoder.weight [d_in, d_sae]; prefix_lengths are the ends of nested groups. The library unpickles such
files, which may run code; here they are read as tensors and plain values only.

Source: hypothesaes 2.0, sae.py.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import clean, fit, whole
from assay.interop.parts import Parts
from assay.interop.site_names import RAW, SUBTRACTED, facts, threshold_of
from assay.interop.torch_files import pt_names, pt_of, torch_bytes

ABOUT = "HypotheSAEs: one .pt file"
HOLDS = frozenset({"topk", "batchtopk"})
WIRINGS = ("sae",)
SHAPES = {
    "input_bias": "d_in",
    "neuron_bias": "d_sae",
    "encoder.weight": "d_sae d_in",
    "decoder.weight": "d_in d_sae",
}


def detects(path: Path) -> bool:
    """A .pt file, or a folder of one, that names the parts."""
    return pt_names(path, "m_total_neurons", "neuron_bias")


def read(path: Path) -> Parts:
    """The parts of one file."""
    file, content = pt_of(path)
    config, state = content.get("config"), content.get("state_dict")
    if not isinstance(config, dict) or not isinstance(state, dict):
        raise BadInput(f"{file} holds no config and state_dict, so it is no HypotheSAEs file.")
    tensors = clean(state, file)
    sizes = {"d_in": whole(config.get("input_dim"), "input_dim", file)}
    sizes["d_sae"] = whole(config.get("m_total_neurons"), "m_total_neurons", file)
    fit(tensors, file, sizes, SHAPES, may={"threshold": ""})
    k = whole(config.get("k_active_neurons"), "k_active_neurons", file)
    batch = bool(config.get("use_batch_topk", False))
    ends = config.get("prefix_lengths") or []
    whole_ends = isinstance(ends, list) and all(isinstance(end, int) for end in ends)
    if not whole_ends or (ends and (ends != sorted(set(ends)) or ends[0] < 1 or ends[-1] != sizes["d_sae"])):
        raise BadInput(
            f"{file}: prefix_lengths is {str(ends)[:60]}; ascending whole numbers up to {sizes['d_sae']} were expected."
        )
    nested = tuple(end - start for start, end in zip([0, *ends], ends, strict=False)) if len(ends) > 1 else ()
    rule = "batchtopk" if batch else "topk"
    return Parts(
        rule=rule,
        W_enc=tensors["encoder.weight"].t(),
        W_dec=tensors["decoder.weight"].t(),
        b_dec=tensors["input_bias"],
        vectors={"b_enc": tensors["neuron_bias"]},
        subtracts=True,
        k=k,
        threshold=float(tensors.get("threshold", torch.zeros(()))) if batch else None,
        groups=nested if batch else (),
        facts=facts(
            format="hypothesaes",
            architecture="batch top-k" if batch else "top-k",
            scale=RAW,
            threshold=threshold_of(rule, k),
            b_dec=SUBTRACTED,
            notes=("its nested groups play no part in its codes and are not kept",) if nested and not batch else (),
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write one file, named as the library names it."""
    p = folding.pre_bias(parts, True)
    ends = list(accumulate(p.groups)) or None
    config = {
        "input_dim": p.d_in,
        "m_total_neurons": p.d_sae,
        "k_active_neurons": p.k,
        "aux_k": None,
        "multi_k": None,
        "dead_neuron_threshold_steps": 256,
        "prefix_lengths": ends,
        "use_batch_topk": p.rule == "batchtopk",
    }
    state = {
        "input_bias": p.b_dec.float(),
        "neuron_bias": p.vectors["b_enc"].float(),
        "threshold": torch.tensor(p.threshold or 0.0),
        "encoder.weight": p.W_enc.t().float(),
        "decoder.weight": p.W_dec.t().float(),
    }
    name = f"SAE_M={p.d_sae}_K={p.k}.pt"
    artefact.atomic_write(folder / name, torch_bytes({"config": config, "state_dict": state}))
