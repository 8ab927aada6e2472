"""OpenMOSS' cross-layer transcoders (`sae_type: clt`): config.json + sae_weights.safetensors with all layers in it.

    pre^l = (c_l x^l) W_E[l] + b_E[l];   f^l = act(pre^l),   or with sparsity_include_decoder_norm  act(pre^l n^l) / n^l
    y^m   = (sum over l <= m of f^l W_D.m[l] + b_D.m) / c'_m

W_E [L, d, d_sae], b_E [L, d_sae], W_D.m [m + 1, d_sae, d] (grouped by the layer that is written), b_D.m [d]; n_i the length of all that
a latent writes. hook_points_in and hook_points_out name the layers. norm_activation = dataset-wise: c = sqrt(d) / (mean length at
the hook), one a hook, stored as dataset_average_activation_norm.HOOK; inference: c = 1. act: relu, topk (k in each layer), jumprelu
with exp(activation_function.log_jumprelu_threshold [L, d_sae]); layertopk and the batch-wise ones choose among layers or rows and are
refused. Codes of a top-k under the norm are n times theirs, as in `openmoss`.

One version's relu passes the mask without the values; it is read as the relu that it stands for.

Source: the code of lm_saes/clt.py, read; it was not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop.foreign_files import fit, folder_of, inside, is_there, json_of, peek_json, safetensors_of, whole
from assay.interop.layers import Layers, layer, of_each, one_width, sites
from assay.interop.openmoss import CONFIG, NORM, NOT_HERE, THETA, WEIGHTS
from assay.interop.parts import Parts
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, lens, threshold_of

ABOUT = "OpenMOSS: config.json (sae_type clt) + sae_weights.safetensors"
HOLDS = frozenset({"relu", "jumprelu", "topk"})
WIRINGS = ("crosslayer",)


def detects(path: Path) -> bool:
    """A folder whose configuration lists the hooks of several layers."""
    folder = folder_of(path, WEIGHTS)
    return (
        folder is not None
        and is_there(folder, CONFIG)
        and isinstance(peek_json(folder, CONFIG).get("hook_points_in"), list)
    )


def read(path: Path) -> Layers:
    """All layers of a folder."""
    folder = folder_of(path, WEIGHTS) or path
    config, file = folder / CONFIG, inside(folder, WEIGHTS)
    cfg = json_of(inside(folder, CONFIG))
    hooks = [_hooks(cfg, key, config) for key in ("hook_points_in", "hook_points_out")]
    n = len(hooks[0])
    if len(hooks[1]) != n:
        raise BadInput(f"{config}: {n} hook_points_in and {len(hooks[1])} hook_points_out; as many are needed.")
    if cfg.get("use_decoder_bias", True) is False:
        raise BadInput(f"{config}: use_decoder_bias is False, which is not read.")
    act, normed = str(cfg.get("act_fn")), bool(cfg.get("sparsity_include_decoder_norm", False))
    if act not in HOLDS:
        raise BadInput(f"{config}: act_fn is {act[:40]!r}; relu, jumprelu and topk (k in each layer) are read.")
    rule = "relu" if act == "relu" else "topk" if act == "topk" else "jumprelu"
    k = whole(cfg.get("top_k"), "top_k", config) if rule == "topk" else None
    normalised = str(cfg.get("norm_activation", "dataset-wise"))
    if normalised not in ("dataset-wise", "inference"):
        raise BadInput(
            f"{config}: norm_activation={normalised[:40]} {NOT_HERE.get(normalised, 'is not known')}; it is not read."
        )
    sizes = {"d": whole(cfg.get("d_model"), "d_model", config), "layers": n}
    tensors = safetensors_of(file, leave_out=NORM)
    must = {"W_E": "layers d d_sae", "b_E": "layers d_sae", **{f"b_D.{m}": "d" for m in range(n)}}
    must |= {THETA: "layers d_sae"} if rule == "jumprelu" else {}
    must |= {f"W_D.{m}": f"sources{m} d_sae d" for m in range(n)}
    sizes |= {f"sources{m}": m + 1 for m in range(n)}
    fit(tensors, file, sizes, must)
    reads, writes = [_scales(file, names, sizes["d"]) if normalised == "dataset-wise" else [1.0] * n for names in hooks]
    parts: list[Parts] = []
    for i in range(n):
        W_dec = torch.cat([tensors[f"W_D.{m}"][i] for m in range(i, n)], dim=1)
        vectors = {"b_enc": tensors["b_E"][i]}
        if rule == "jumprelu":
            theta = tensors[THETA][i].exp()
            vectors["theta"] = theta / W_dec.norm(dim=1).clamp_min(1e-12) if normed else theta
        more: dict[str, Any] = {"k": k, "scale": (reads[i], 1.0), "norm_in_code": normed and rule == "topk"}
        parts.append(layer(rule, tensors["W_E"][i], vectors, W_dec, tensors[f"b_D.{i}"], **more))
    notes = ("codes are theirs times ||W_D_i||, by which their top-k ranks",) if normed and rule == "topk" else ()
    return Layers(
        parts=tuple(parts),
        widths=(sizes["d"],) * n,
        crosses=True,
        out=tuple(writes),
        facts=facts(
            format="openmoss_clt",
            architecture=f"cross-layer transcoder of {n} layers, {act}",
            scale=RAW
            if normalised == "inference"
            else "sqrt(d_model) / mean length, a number for each layer's input and output",
            threshold=threshold_of(rule, k),
            b_dec=NOT_SUBTRACTED,
            model=cfg.get("model_name") or cfg.get("model_from_pretrained_path"),
            site=sites(hooks[0]),
            target=sites(hooks[1]),
            notes=notes,
        ),
    )


def _hooks(cfg: dict[str, Any], key: str, config: Path) -> list[str]:
    names = cfg.get(key)
    if not isinstance(names, list) or not 0 < len(names) < 1000 or not all(isinstance(s, str) and s for s in names):
        raise BadInput(f"{config}: {key} is {str(names)[:60]}; a list of the layers' hooks was expected.")
    return names


def _scales(file: Path, hooks: list[str], d: int) -> list[float]:
    """sqrt(d) / mean length of each hook."""
    stored = artefact.read_tensors(file)
    made: list[float] = []
    for hook in hooks:
        mean = stored.get(NORM + hook)
        value = float(mean) if mean is not None and mean.numel() == 1 else float("nan")
        if not 1e-6 < value < 1e9:
            raise BadInput(f"{file}: norm_activation is dataset-wise, but the mean length at {hook[:60]} is {value}.")
        made.append(d**0.5 / value)
    return made


@torch.no_grad()
def write(layers: Layers, folder: Path) -> None:
    """Write config.json and sae_weights.safetensors in raw space. Raises BadInput for a skip path, or widths that differ."""
    if any(p.W_skip is not None for p in layers.parts):
        raise BadInput("OpenMOSS' cross-layer transcoders have no place for the skip paths W_skip.")
    width, n = one_width(layers, "OpenMOSS"), len(layers.parts)
    slots = [p.W_dec.reshape(p.d_sae, n - i, width) for i, p in enumerate(layers.parts)]
    tensors = {
        "W_E": torch.stack([p.W_enc for p in layers.parts]),
        "b_E": torch.stack([p.vectors["b_enc"] for p in layers.parts]),
        **{f"W_D.{m}": torch.stack([slots[i][:, m - i] for i in range(m + 1)]) for m in range(n)},
        **{f"b_D.{m}": b_dec for m, b_dec in enumerate(layers.b_dec.split(width))},
    }
    if layers.rule == "jumprelu":  # a threshold of 0 has no logarithm
        tensors[THETA] = torch.stack([p.vectors["theta"] for p in layers.parts]).clamp_min(1e-30).log()
    names = {
        key: [lens(site) or f"{side}.{i}" for i, site in enumerate(of_each(layers.facts.get(fact), n))]
        for key, fact, side in (("hook_points_in", "site", "in"), ("hook_points_out", "target", "out"))
    }
    cfg: dict[str, Any] = {
        "sae_type": "clt",
        **names,
        "d_model": width,
        "expansion_factor": layers.parts[0].d_sae / width,
        "use_decoder_bias": True,
        "act_fn": layers.rule,
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": False,
        "model_name": layers.facts.get("model"),
        **({"top_k": layers.k} if layers.rule == "topk" else {}),
    }
    artefact.write_tensors(folder / WEIGHTS, {name: tensor.float() for name, tensor in tensors.items()})
    artefact.write_json(folder / CONFIG, cfg)
