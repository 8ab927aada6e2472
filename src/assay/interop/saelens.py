"""SAELens: cfg.json + sae_weights.safetensors. Version 6, and the flat configurations of older ones on reading.

Matrices are row-vector: W_enc [d_in, d_sae], W_dec [d_sae, d_out]; W_skip is [d_out, d_in] and applied as x W_skip^T.

    apply_b_dec_to_input           whether the encoder subtracts b_dec; never in transcoders
    rescale_acts_by_decoder_norm   top-k ranks pre * ||W_dec_i||, and the decoder divides it out again
    normalize_activations          expected_average_only_in: the encoder sees s x with s = sqrt(d_in) / mean ||x||, and its output means
                                   s x_hat; the number s is in activation_scaler.json of a training checkpoint.
                                   covariance_whitening: (x - mean) M, in activation_whitening.safetensors of one.
                                   layer_norm, constant_norm_rescale: every row by itself (`dictionaries/rows.py`)
    batchtopk, matryoshka          a training checkpoint holds one number, topk_threshold; the export is a jumprelu

The library itself loads expected_average_only_in without the number and then skips it in silence; here that is refused.
Source: SAELens 6.54 (github.com/decoderesearch/SAELens), its classes and loaders.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact
from assay.core.errors import BadInput
from assay.dictionaries.rows import Rows
from assay.interop import folding
from assay.interop.foreign_files import fit, folder_of, inside, is_there, json_of, peek_json, safetensors_of, whole
from assay.interop.parts import Parts
from assay.interop.site_names import NOT_SUBTRACTED, RAW, SUBTRACTED, facts, lens, threshold_of

ABOUT = "SAELens, version 6 and older: cfg.json + sae_weights.safetensors"
HOLDS = frozenset({"relu", "gated", "jumprelu", "topk", "abstopk"})
ROWS = ("as_is", "layer_norm", "constant_norm")
WIRINGS = ("sae", "transcoder")
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

RULES = {
    "standard": "relu",
    "gated": "gated",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "abstopk": "abstopk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
VECTORS = {
    "gated": {"b_gate": "d_sae", "r_mag": "d_sae", "b_mag": "d_sae"},
    "jumprelu": {"b_enc": "d_sae", "threshold": "d_sae"},
    "batchtopk": {"b_enc": "d_sae", "topk_threshold": ""},
}
TRANSCODERS = {  # by rule and whether there is a skip path
    ("relu", False): "transcoder",
    ("relu", True): "skip_transcoder",
    ("jumprelu", False): "jumprelu_transcoder",
    ("jumprelu", True): "jumprelu_skip_transcoder",
}
OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
WHY_NOT = {
    "matching_pursuit": "its pursuit stops by the residual's length; assay's matching pursuit takes a stated number of steps",
    "temporal": "its codes also depend on earlier tokens; assay's dictionaries read one row at a time",
}
ROWWISE: dict[str, Rows] = {"none": "as_is", "layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}


def detects(path: Path) -> bool:
    """A folder with both files, whose configuration is not that of sparsify."""
    folder = folder_of(path, WEIGHTS) or (folder_of(path, CONFIG) if path.is_file() else None)
    return folder is not None and is_there(folder, WEIGHTS) and "d_in" in peek_json(folder, CONFIG)


def read(path: Path) -> Parts:
    """The parts of a SAELens folder. Raises BadInput, saying which part cannot be held."""
    folder = folder_of(path, WEIGHTS) or path.parent
    file = inside(folder, WEIGHTS)
    cfg = modern(json_of(inside(folder, CONFIG)), folder / CONFIG)
    tensors = safetensors_of(file)
    architecture, meta, notes = str(cfg.get("architecture")), cfg["metadata"], cfg["notes"]
    if architecture not in RULES:
        why = WHY_NOT.get(architecture, f"known are {', '.join(RULES)}")
        raise BadInput(f"{folder} is a SAELens dictionary of architecture {architecture!r}, which is not read: {why}.")
    rule = RULES[architecture]
    transcoder = "transcoder" in architecture
    subtracts = cfg.get("apply_b_dec_to_input", not transcoder)
    if transcoder and subtracts:
        raise BadInput(
            f"{folder / CONFIG}: apply_b_dec_to_input is true for a transcoder, whose b_dec lies at another site."
        )
    tensors, notes = tidied(tensors, cfg, notes)
    sizes = {name: whole(cfg[name], name, folder / CONFIG) for name in ("d_in", "d_sae", "d_out") if name in cfg}
    sizes = {"d_out": sizes["d_in"], **sizes} if not transcoder else sizes
    vectors = VECTORS.get(rule, {"b_enc": "d_sae"})
    skip = {"W_skip": "d_out d_in"} if "skip" in architecture else {}
    fit(tensors, file, sizes, {"W_enc": "d_in d_sae", "W_dec": "d_sae d_out", "b_dec": "d_out", **vectors, **skip})
    k = whole(cfg.get("k"), "k", folder / CONFIG) if rule in ("topk", "abstopk", "batchtopk") else None
    normalised = str(cfg.get("normalize_activations") or "none")
    parts = Parts(
        rule=rule,  # type: ignore[arg-type]
        W_enc=tensors["W_enc"],
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        vectors={{"threshold": "theta"}.get(n, n): tensors[n] for n in vectors if n != "topk_threshold"},
        subtracts=bool(subtracts),
        transcoder=transcoder,
        k=k,
        threshold=float(tensors["topk_threshold"]) if rule == "batchtopk" else None,
        groups=groups_of(cfg, sizes["d_sae"]) if architecture.startswith("matryoshka") else (),
        W_skip=tensors["W_skip"].t() if skip else None,
        norm_in_code=bool(cfg.get("rescale_acts_by_decoder_norm", False)) and rule in ("topk", "abstopk", "batchtopk"),
        facts=facts(
            format="saelens",
            architecture=architecture,
            scale=RAW if normalised == "none" else normalised,
            threshold=threshold_of(rule, k),
            b_dec=SUBTRACTED if subtracts else NOT_SUBTRACTED,
            model=meta.get("model_name"),
            site=meta.get("hook_name"),
            target=meta.get("hook_name_out") if transcoder else None,
            notes=notes,
        ),
    )
    return unnormalised(parts, normalised, folder)


def modern(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration of any version with the keys of version 6; what was flat goes into `metadata`, remarks into `notes`."""
    cfg = {OLD_NAMES.get(name, name): value for name, value in cfg.items()}
    notes: tuple[str, ...] = ()
    if not isinstance(cfg.get("metadata", {}), dict):
        raise BadInput(f"{path}: metadata is not an object.")
    version = str(cfg.get("sae_lens_version") or cfg.get("metadata", {}).get("sae_lens_version") or "")
    if "metadata" not in cfg or not version or version.startswith(("1.", "2.", "3.", "4.", "5.", "0.")):
        notes = ("a configuration of a version before 6",)
        kwargs = cfg.get("activation_fn_kwargs") or {}
        cfg.setdefault("architecture", "standard")
        if cfg.get("activation_fn") == "topk":
            cfg["architecture"], cfg["k"] = "topk", kwargs.get("k") if isinstance(kwargs, dict) else None
        elif cfg.get("activation_fn", "relu") != "relu":
            raise BadInput(f"{path}: activation_fn is {cfg['activation_fn']!r}; only relu and topk are read.")
        if isinstance(cfg.get("normalize_activations"), bool):
            cfg["normalize_activations"] = "expected_average_only_in" if cfg["normalize_activations"] else "none"
        cfg.setdefault("apply_b_dec_to_input", "transcoder" not in str(cfg["architecture"]))
        cfg["metadata"] = {**cfg, **cfg.get("metadata", {})}
    for name in ("apply_b_dec_to_input", "rescale_acts_by_decoder_norm"):
        if not isinstance(cfg.get(name, False), bool):
            raise BadInput(f"{path}: {name} is {cfg[name]!r}; true or false was expected.")
    return {**cfg, "metadata": cfg["metadata"], "notes": notes}


def tidied(
    tensors: dict[str, Tensor], cfg: dict[str, Any], notes: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without what older versions kept beside the weights: the finetuning scale goes into W_dec, log_threshold becomes threshold."""
    tensors = dict(tensors)
    scaling = tensors.pop("scaling_factor", None)
    if scaling is not None and "W_dec" in tensors and not bool((scaling == 1).all()):
        if cfg.get("finetuning_scaling_factor") and scaling.shape == tensors["W_dec"].shape[:1]:
            tensors["W_dec"] = tensors["W_dec"] * scaling[:, None]
            notes = (*notes, "scaling_factor of a finetuning was folded into W_dec")
        else:
            notes = (*notes, "scaling_factor was left out, since finetuning_scaling_factor is off")
    if "log_threshold" in tensors and "threshold" not in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").exp()
        notes = (*notes, "thresholds were stored as logarithms")
    return tensors, notes


def groups_of(cfg: dict[str, Any], d_sae: int) -> tuple[int, ...]:
    """Sizes of the nested groups, from their ends."""
    widths = cfg.get("matryoshka_widths") or []
    ends = [w for w in widths if isinstance(w, int) and 0 < w < d_sae] if isinstance(widths, list) else []
    ends = [*sorted(set(ends)), d_sae]
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))


def unnormalised(parts: Parts, normalised: str, folder: Path) -> Parts:
    """Parts that read raw activations; the numbers of a training checkpoint lie beside it."""
    if normalised in ROWWISE:
        if parts.transcoder and normalised != "none":
            raise BadInput(
                f"{folder}: normalize_activations={normalised} of a transcoder, whose output has other rows; it is not read."
            )
        return replace(parts, rows=ROWWISE[normalised])
    if normalised == "expected_average_only_in":
        factor = peek_json(folder, "activation_scaler.json").get("scaling_factor")
        if not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise BadInput(
                f"{folder}: normalize_activations={normalised}, but the factor is not there; put the run's "
                'activation_scaler.json ({"scaling_factor": sqrt(d_in) / mean norm}) beside the weights.'
            )
        return replace(parts, scale=(float(factor), float(factor)))
    if normalised == "covariance_whitening":
        if not is_there(folder, "activation_whitening.safetensors"):
            raise BadInput(
                f"{folder}: it reads whitened activations; put the run's activation_whitening.safetensors beside."
            )
        file = inside(folder, "activation_whitening.safetensors")
        white = safetensors_of(file)
        fit(white, file, {"d_in": parts.d_in}, {"mean": "d_in", "matrix": "d_in d_in", "inverse_matrix": "d_in d_in"})
        return folding.whitening(parts, white["mean"], white["matrix"], white["inverse_matrix"])
    raise BadInput(f"{folder}: normalize_activations is {normalised!r}, which is not known.")


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write a folder that SAELens 6 loads. Raises BadInput naming the part that it cannot represent."""
    skip = parts.W_skip is not None
    architecture = "standard" if parts.rule == "relu" else parts.rule
    if parts.transcoder:
        if (parts.rule, skip) not in TRANSCODERS:
            raise BadInput(
                f"SAELens has no transcoder with the rule {parts.rule}; its transcoders are relu and jumprelu."
            )
        architecture = TRANSCODERS[parts.rule, skip]
    tensors = {"W_enc": parts.W_enc, "W_dec": parts.W_dec, "b_dec": parts.b_dec}
    tensors |= {{"theta": "threshold"}.get(name, name): vector for name, vector in parts.vectors.items()}
    if parts.W_skip is not None:
        tensors["W_skip"] = parts.W_skip.t()
    cfg: dict[str, Any] = {
        "d_in": parts.d_in,
        "d_sae": parts.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": parts.subtracts,
        "normalize_activations": next(name for name, rows in ROWWISE.items() if rows == parts.rows),
        "reshape_activations": "hook_z" if "attn_z" in str(parts.facts.get("site", "")) else "none",
        **({"d_out": parts.d_out} if parts.transcoder else {}),
        **({"k": parts.k, "rescale_acts_by_decoder_norm": False} if parts.k and parts.rule != "jumprelu" else {}),
        "metadata": {
            "sae_lens_version": "6.54.0",
            "sae_lens_training_version": None,
            "model_name": parts.facts.get("model"),
            "hook_name": lens(parts.facts.get("site")),
            **({"hook_name_out": lens(parts.facts.get("target"))} if parts.transcoder else {}),
        },
        "architecture": architecture,
    }
    artefact.write_tensors(folder / WEIGHTS, {name: tensor.float() for name, tensor in tensors.items()})
    artefact.write_json(folder / CONFIG, cfg)
