"""dictionary_learning: ae.pt (a state dict) + config.json, whose trainer.dict_class says which class it is.

    AutoEncoder              relu; subtracts `bias`; encoder.weight [d_sae, d_in], decoder.weight [d_in, d_sae]
    AutoEncoderNew           relu; subtracts nothing; decoder.bias
    GatedAutoEncoder         gated; subtracts decoder_bias; r_mag, gate_bias, mag_bias
    JumpReluAutoEncoder      jumprelu; subtracts nothing; W_enc [d_in, d_sae], b_enc, W_dec [d_sae, d_in], b_dec, threshold
    AutoEncoderTopK          topk; subtracts b_dec; k, and a threshold that inference does not use by default
    BatchTopKSAE             one threshold; subtracts b_dec; -1 means that none was learned
    MatryoshkaBatchTopKSAE   the same with W_enc, W_dec, group_sizes

Weights are final: where the run divided its activations by norm_factor, biases and threshold were multiplied by it at the end, and the
weights were not (the convention of Gemma Scope). The library itself gives AutoEncoder rows of length 1 on loading, so its codes are
ours times ||W_dec_i||; the output is the same.

Source: dictionary-learning 0.1.0, dictionary.py and trainers/. The archive is read as tensors only; nothing in it is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import clean, fit, folder_of, inside, json_of, whole
from assay.interop.parts import Parts, Rule
from assay.interop.site_names import NOT_SUBTRACTED, RAW, SUBTRACTED, facts, threshold_of
from assay.interop.torch_files import torch_bytes, torch_of

ABOUT = "dictionary_learning: ae.pt + config.json"
HOLDS = frozenset({"relu", "gated", "jumprelu", "topk", "batchtopk"})
WIRINGS = ("sae",)
CONFIG, WEIGHTS = "config.json", "ae.pt"

LINEAR = {"encoder.weight": "d_sae d_in", "encoder.bias": "d_sae", "decoder.weight": "d_in d_sae"}
PLAIN = {"W_enc": "d_in d_sae", "b_enc": "d_sae", "W_dec": "d_sae d_in", "b_dec": "d_in"}
GATES = {"r_mag": "d_sae", "gate_bias": "d_sae", "mag_bias": "d_sae"}
RULES: dict[str, Rule] = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "batchtopk",
}
SHAPES: dict[str, dict[str, str]] = {
    "AutoEncoder": {**LINEAR, "bias": "d_in"},
    "AutoEncoderNew": {**LINEAR, "decoder.bias": "d_in"},
    "GatedAutoEncoder": {
        "decoder_bias": "d_in",
        "encoder.weight": "d_sae d_in",
        "decoder.weight": "d_in d_sae",
        **GATES,
    },
    "JumpReluAutoEncoder": {**PLAIN, "threshold": "d_sae"},
    "AutoEncoderTopK": {**LINEAR, "b_dec": "d_in", "k": ""},
    "BatchTopKSAE": {**LINEAR, "b_dec": "d_in", "k": "", "threshold": ""},
    "MatryoshkaBatchTopKSAE": {**PLAIN, "k": "", "threshold": "", "group_sizes": "groups"},
}
DOES_NOT_SUBTRACT = ("AutoEncoderNew", "JumpReluAutoEncoder")
B_DEC = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}


def detects(path: Path) -> bool:
    """A folder with ae.pt."""
    return folder_of(path, WEIGHTS) is not None


def read(path: Path) -> Parts:
    """The parts of one trainer's folder."""
    folder = folder_of(path, WEIGHTS) or path
    file = inside(folder, WEIGHTS)
    trainer = json_of(inside(folder, CONFIG)).get("trainer")
    if not isinstance(trainer, dict):
        raise BadInput(f"{folder / CONFIG} has no trainer, so it does not say which class ae.pt is.")
    name = str(trainer.get("dict_class"))
    if name not in RULES:
        raise BadInput(f"{folder / CONFIG}: dict_class is {name!r}; known are {', '.join(RULES)}.")
    tensors = clean(torch_of(file), file)
    axes = {"d_in": "activation_dim", "d_sae": "dict_size"}
    sizes = {axis: whole(trainer[key], key, folder / CONFIG) for axis, key in axes.items() if key in trainer}
    groups = tensors.pop("group_sizes", None) if name.startswith("Matryoshka") else None
    shapes = {n: s for n, s in SHAPES[name].items() if n != "group_sizes"}
    if "k" in shapes and "k" not in tensors:  # older files say it in the configuration alone
        tensors["k"] = torch.tensor(whole(trainer.get("k"), "k", folder / CONFIG))
    fit(tensors, file, sizes, shapes, may={"threshold": ""} if name == "AutoEncoderTopK" else None)
    k = whole(tensors["k"].item(), "k", file) if "k" in tensors else None
    if k is not None and trainer.get("k", k) != k:
        raise BadInput(
            f"{folder / CONFIG} says k={trainer['k']}, but {WEIGHTS} k={k}; its files do not belong together."
        )
    rule, subtracts = RULES[name], name not in DOES_NOT_SUBTRACT
    linear = "encoder.weight" in tensors
    norm = trainer.get("norm_factor")
    return Parts(
        rule=rule,
        W_enc=tensors["encoder.weight"].t() if linear else tensors["W_enc"],
        W_dec=tensors["decoder.weight"].t() if linear else tensors["W_dec"],
        b_dec=tensors[B_DEC.get(name, "b_dec")],
        vectors=_vectors(name, tensors),
        subtracts=subtracts,
        k=k,
        threshold=float(tensors["threshold"]) if rule == "batchtopk" else None,
        groups=() if groups is None else _groups(groups, sizes["d_sae"], file),
        facts=facts(
            format="dictionary_learning",
            architecture=name,
            scale=RAW if norm is None else f"{RAW}; trained on x / {norm}, folded into the biases when it was saved",
            threshold=threshold_of(rule, k),
            b_dec=SUBTRACTED if subtracts else NOT_SUBTRACTED,
            model=trainer.get("lm_name"),
            site=trainer.get("submodule_name"),
        ),
    )


def _vectors(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if name == "GatedAutoEncoder":
        return {"b_gate": tensors["gate_bias"], "r_mag": tensors["r_mag"], "b_mag": tensors["mag_bias"]}
    b_enc = tensors["encoder.bias"] if "encoder.bias" in tensors else tensors["b_enc"]
    return {"b_enc": b_enc, "theta": tensors["threshold"]} if name == "JumpReluAutoEncoder" else {"b_enc": b_enc}


def _groups(groups: Tensor, d_sae: int, file: Path) -> tuple[int, ...]:
    sizes = groups.flatten().tolist()
    if groups.is_floating_point() or sum(sizes) != d_sae or min(sizes, default=0) < 1:
        raise BadInput(
            f"{file}: group_sizes is {sizes[:8]}; whole numbers that sum to dict_size {d_sae} were expected."
        )
    return tuple(int(size) for size in sizes)


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write one trainer's folder. Raises BadInput naming the part that it cannot represent."""
    name = next(
        n for n, rule in RULES.items() if rule == parts.rule and n.startswith("Matryoshka") == bool(parts.groups)
    )
    if parts.rule == "relu" and not parts.subtracts:
        name = "AutoEncoderNew"
    p = folding.pre_bias(parts, name not in DOES_NOT_SUBTRACT)
    v = p.vectors
    if "encoder.weight" in SHAPES[name]:
        tensors = {"encoder.weight": p.W_enc.t(), "decoder.weight": p.W_dec.t(), B_DEC.get(name, "b_dec"): p.b_dec}
    else:
        tensors = {"W_enc": p.W_enc, "W_dec": p.W_dec, "b_dec": p.b_dec}
    if p.rule == "gated":
        tensors |= {"r_mag": v["r_mag"], "gate_bias": v["b_gate"], "mag_bias": v["b_mag"]}
    else:
        tensors["encoder.bias" if "encoder.weight" in tensors else "b_enc"] = v["b_enc"]
    if p.rule == "jumprelu":
        tensors["threshold"] = v["theta"]
    tensors = {key: tensor.float() for key, tensor in tensors.items()}
    if p.k is not None:
        tensors["k"] = torch.tensor(p.k, dtype=torch.int32)
        tensors["threshold"] = torch.tensor(-1.0 if p.threshold is None else p.threshold)
    if p.groups:
        tensors["group_sizes"] = torch.tensor(p.groups, dtype=torch.int64)
    trainer: dict[str, Any] = {
        "dict_class": name,
        "activation_dim": p.d_in,
        "dict_size": p.d_sae,
        **({} if p.k is None else {"k": p.k}),
        "lm_name": p.facts.get("model"),
        "submodule_name": p.facts.get("site"),
    }
    artefact.atomic_write(folder / WEIGHTS, torch_bytes(tensors))
    artefact.write_json(folder / CONFIG, {"trainer": trainer, "buffer": {"d_submodule": p.d_in, "io": "out"}})
