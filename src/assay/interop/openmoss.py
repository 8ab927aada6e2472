"""OpenMOSS (Language-Model-SAEs, llamascopium): config.json + sae_weights.safetensors, and the older Llama Scope layout.

    pre = (c_in x) W_E + b_E;   f = act(pre),   or with sparsity_include_decoder_norm  act(pre n) / n,  n_i = ||W_D_i||
    y   = (f W_D + b_D) / c_out

Nothing is subtracted. norm_activation = dataset-wise: c = sqrt(d_model) / (mean length of activations at the hook), whose numbers are
tensors dataset_average_activation_norm.HOOK (uninitialised memory where unused, so they are read only then); inference: c = 1;
token-wise and batch-wise normalise by the row or the batch, which no weights can say. act: relu, topk, or jumprelu with threshold
exp(activation_function.log_jumprelu_threshold). Under the norm a jumprelu threshold is theirs / n, and the codes stay; a top-k by
act(pre n) has codes n times theirs.

Llama Scope: hyperparams.json + checkpoints/final.safetensors with encoder.*, decoder.* and one jump_relu_threshold in raw units, that
is times c_in. The converter of these tools to "inference" leaves thresholds behind; here they move with everything else.

Source: the code of the two tools and of SAELens' loader, read; neither was run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import fit, folder_of, inside, is_there, json_of, peek_json, safetensors_of, whole
from assay.interop.parts import Parts, Rule
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, lens, threshold_of

ABOUT = "OpenMOSS: config.json + sae_weights.safetensors; Llama Scope: hyperparams.json + checkpoints/final.safetensors"
HOLDS = frozenset({"relu", "jumprelu", "topk"})
WIRINGS = ("sae", "transcoder")
CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
OLD_CONFIG, OLD_WEIGHTS = "hyperparams.json", "final.safetensors"
NORM, THETA = "dataset_average_activation_norm.", "activation_function.log_jumprelu_threshold"
MATRICES = {"W_E": "d_in d_sae", "b_E": "d_sae", "W_D": "d_sae d_out"}
OLD_NAMES = {
    "encoder.weight": "d_sae d_in",
    "encoder.bias": "d_sae",
    "decoder.weight": "d_out d_sae",
    "decoder.bias": "d_out",
}
RULES: dict[str, Rule] = {"relu": "relu", "jumprelu": "jumprelu", "topk": "topk"}
NOT_HERE = {
    "token-wise": "normalises every row by its own length",
    "batch-wise": "normalises by the batch at hand",
}


def detects(path: Path) -> bool:
    """A folder with hyperparams.json and its checkpoint, or with a configuration that has d_model and act_fn."""
    folder = path if path.is_dir() else path.parent
    if is_there(folder, OLD_CONFIG) and is_there(folder / "checkpoints", OLD_WEIGHTS):
        return True
    cfg = peek_json(folder, CONFIG)
    one = not isinstance(cfg.get("hook_points_in"), list)  # else it is a cross-layer transcoder
    return folder_of(path, WEIGHTS) is not None and {"d_model", "act_fn"} <= set(cfg) and one


def read(path: Path) -> Parts:
    """The parts of one folder."""
    folder = path if path.is_dir() else path.parent
    old = is_there(folder, OLD_CONFIG)
    config = folder / (OLD_CONFIG if old else CONFIG)
    cfg = json_of(inside(folder, config.name))
    file = inside(folder / "checkpoints", OLD_WEIGHTS) if old else inside(folder, WEIGHTS)
    act = str(cfg.get("act_fn"))
    kind = str(cfg.get("sae_type", "sae"))
    for name, wrong in (
        ("use_glu_encoder", True),
        ("apply_decoder_bias_to_pre_encoder", True),
        ("use_decoder_bias", False),
    ):
        if cfg.get(name, not wrong) is wrong:
            raise BadInput(f"{config}: {name} is {wrong}, which is not read.")
    if act not in RULES or kind not in ("sae", "transcoder"):
        raise BadInput(
            f"{config}: act_fn is {act[:40]!r}, sae_type {kind[:40]!r}; relu, topk and jumprelu of one site are read."
        )
    rule = RULES[act]
    d_in = whole(cfg.get("d_model"), "d_model", config)
    reads, writes = (
        str(cfg.get("hook_point_in") or ""),
        str(cfg.get("hook_point_out") or cfg.get("hook_point_in") or ""),
    )
    normalised = str(cfg.get("norm_activation", "dataset-wise"))
    if normalised not in ("dataset-wise", "inference"):
        raise BadInput(
            f"{config}: norm_activation={normalised[:40]} {NOT_HERE.get(normalised, 'is not known')}; it is not read."
        )
    tensors = safetensors_of(file, leave_out=NORM)
    c_in, c_out = _scales(cfg, file, d_in, (reads, writes), old) if normalised == "dataset-wise" else (1.0, 1.0)
    must = dict(OLD_NAMES) if old else {**MATRICES, "b_D": "d_out", **({THETA: "d_sae"} if rule == "jumprelu" else {})}
    sizes = {"d_in": d_in} | ({"d_sae": whole(cfg["d_sae"], "d_sae", config)} if "d_sae" in cfg else {})
    fit(tensors, file, sizes, must)
    W_enc = tensors["encoder.weight"].t() if old else tensors["W_E"]
    W_dec = tensors["decoder.weight"].t() if old else tensors["W_D"]
    vectors = {"b_enc": tensors["encoder.bias" if old else "b_E"]}
    normed = bool(cfg.get("sparsity_include_decoder_norm", False))
    if rule == "jumprelu":
        theta = _raw_threshold(cfg, config, c_in, vectors["b_enc"]) if old else tensors[THETA].exp()
        vectors["theta"] = theta / W_dec.norm(dim=1).clamp_min(1e-12) if normed else theta
    k = whole(cfg.get("top_k"), "top_k", config) if rule == "topk" else None
    transcoder = reads != writes or sizes["d_in"] != sizes["d_out"]
    notes = ("codes are theirs times ||W_dec_i||, by which their top-k ranks",) if normed and rule == "topk" else ()
    return Parts(
        rule=rule,
        W_enc=W_enc,
        W_dec=W_dec,
        b_dec=tensors["decoder.bias" if old else "b_D"],
        vectors=vectors,
        transcoder=transcoder,
        k=k,
        scale=(c_in, c_out),
        norm_in_code=normed and rule == "topk",
        facts=facts(
            format="openmoss",
            architecture=f"{act}{' transcoder' if transcoder else ''}{', Llama Scope' if old else ''}",
            scale=RAW
            if normalised == "inference"
            else f"x times {c_in:.6g} (sqrt(d_model) / mean length), prediction over {c_out:.6g}",
            threshold=threshold_of(rule, k),
            b_dec=NOT_SUBTRACTED,
            model=cfg.get("model_name") or cfg.get("model_from_pretrained_path"),
            site=reads,
            target=writes if transcoder else None,
            notes=notes,
        ),
    )


def _scales(cfg: dict[str, Any], file: Path, d_in: int, hooks: tuple[str, str], old: bool) -> tuple[float, float]:
    """(c_in, c_out) of a dataset-wise norm."""
    if old:
        means = cfg.get("dataset_average_activation_norm")
        found = [means.get(side) for side in ("in", "out")] if isinstance(means, dict) else [None, None]
    else:
        stored = artefact.read_tensors(file)
        found = [
            float(stored[NORM + hook]) if NORM + hook in stored and stored[NORM + hook].numel() == 1 else None
            for hook in hooks
        ]
    for value, side in zip(found, ("in", "out"), strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-6 < value < 1e9:
            raise BadInput(
                f"{file}: norm_activation is dataset-wise, but the mean length of its activations ({side}) is "
                f"{str(value)[:40]}; it was never set."
            )
    return d_in**0.5 / float(found[0] or 1), d_in**0.5 / float(found[1] or 1)


def _raw_threshold(cfg: dict[str, Any], config: Path, c_in: float, like: Tensor) -> Tensor:
    value = cfg.get("jump_relu_threshold")
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:
        raise BadInput(f"{config}: jump_relu_threshold is {str(value)[:40]}; a number was expected.")
    return torch.full_like(like, float(value) * c_in)


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write config.json and sae_weights.safetensors in raw space. Raises BadInput for a skip path, or widths that differ."""
    if parts.W_skip is not None:
        raise BadInput("OpenMOSS has no place for the skip path W_skip.")
    if parts.d_in != parts.d_out:
        raise BadInput(f"OpenMOSS holds one d_model; this transcoder has d_in={parts.d_in} and d_out={parts.d_out}.")
    p = folding.pre_bias(parts, False)
    tensors = {"W_E": p.W_enc, "b_E": p.vectors["b_enc"], "W_D": p.W_dec, "b_D": p.b_dec}
    if p.rule == "jumprelu":
        tensors[THETA] = p.vectors["theta"].clamp_min(1e-30).log()  # a threshold of 0 has no logarithm
    reads = lens(p.facts.get("site")) or "in"
    cfg: dict[str, Any] = {
        "sae_type": "transcoder" if p.transcoder else "sae",
        "hook_point_in": reads,
        "hook_point_out": (lens(p.facts.get("target")) or "out") if p.transcoder else reads,
        "d_model": p.d_in,
        "expansion_factor": p.d_sae / p.d_in,
        "use_decoder_bias": True,
        "use_glu_encoder": False,
        "act_fn": p.rule,
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": False,
        "model_name": p.facts.get("model"),
        **({"top_k": p.k} if p.rule == "topk" else {}),
    }
    artefact.write_tensors(folder / WEIGHTS, {name: tensor.float() for name, tensor in tensors.items()})
    artefact.write_json(folder / CONFIG, cfg)
