"""Gemma Scope 2's cross-layer transcoders: a folder of params_layer_0.safetensors, params_layer_1.safetensors, ... and config.json.

    f^l = pre 1[pre > threshold^l] relu'd;   pre = x^l w_enc^l + b_enc^l
    y^m = sum over l <= m of f^l w_dec^l[:, m] + b_dec^m + x^m affine^m

Each file holds w_enc [d, d_sae], w_dec [d_sae, L, d], b_enc, b_dec [d], threshold [d_sae] and perhaps affine_skip_connection [d, d], applied
as x @ affine. Slots of w_dec for layers before its own play no part and are left out. The folder's name says width and L0
(clt/width_262k_l0_medium_affine). Thresholds below 0 are a plain ReLU, as in `gemma_scope_2`.

Circuit-tracer's loader of these files leaves out the last layer; here all are read.
Source: circuit-tracer 0.5, transcoder/cross_layer_transcoder.py; file names as published. No published file was at hand.
"""

from __future__ import annotations

from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop.foreign_files import fit, inside, peek_json, safetensors_names, safetensors_of
from assay.interop.layers import Layers, layer, of_each, one_width, sites
from assay.interop.parts import Parts
from assay.interop.site_names import EACH, NOT_SUBTRACTED, RAW, facts, lens

ABOUT = "Gemma Scope 2: params_layer_N.safetensors (w_enc, w_dec, ...) + config.json"
HOLDS = frozenset({"jumprelu"})
WIRINGS = ("crosslayer",)
FILE, CONFIG, SKIP = "params_layer_{}.safetensors", "config.json", "affine_skip_connection"
SHAPES = {"w_enc": "d d_sae", "w_dec": "d_sae layers d", "b_enc": "d_sae", "b_dec": "d", "threshold": "d_sae"}


def detects(path: Path) -> bool:
    """A folder with the file of layer 0."""
    return path.is_dir() and safetensors_names(path / FILE.format(0)) >= set(SHAPES)


def read(path: Path) -> Layers:
    """All layers of a folder. Raises BadInput where one is missing."""
    sizes: dict[str, int] = {}
    parts: list[Parts] = []
    lost = False
    n, i = 1, 0
    while i < n:
        if not (path / FILE.format(i)).is_file():
            raise BadInput(f"{path} has no {FILE.format(i)}, but its w_dec writes to {n} layers; all files are needed.")
        file = inside(path, FILE.format(i))
        tensors = safetensors_of(file)
        fit(tensors, file, sizes, SHAPES, may={SKIP: "d d"})
        n = sizes["layers"]
        w_dec = tensors["w_dec"]
        lost = lost or bool(w_dec[:, :i].any())
        vectors = {"b_enc": tensors["b_enc"], "theta": tensors["threshold"]}
        W_dec = w_dec[:, i:].flatten(1)
        parts.append(layer("jumprelu", tensors["w_enc"], vectors, W_dec, tensors["b_dec"], skip=tensors.get(SKIP)))
        i += 1
    skips = {p.W_skip is not None for p in parts}
    if len(skips) > 1:
        raise BadInput(f"{path}: some layers have {SKIP} and some have none; its files do not belong together.")
    cfg = peek_json(path, CONFIG)
    said = str(cfg.get("architecture", "jump_relu"))
    if said.replace("_", "") not in ("jumprelu", "jumprelumultilayersae"):
        raise BadInput(f"{path / CONFIG}: architecture is {said[:40]!r}; Gemma Scope 2 holds jump_relu only.")
    places = [cfg.get(f"hf_hook_point_{side}") for side in ("in", "out")]
    named = [
        sites([str(name) for name in each]) if isinstance(each, list) and len(each) == n else None for each in places
    ]
    notes = () if cfg else ("config.json is missing",)
    if lost:
        notes += ("w_dec also holds numbers for layers before a latent's own, which play no part",)
    return Layers(
        parts=tuple(parts),
        widths=(sizes["d"],) * n,
        crosses=True,
        facts=facts(
            format="gemma_scope_2_clt",
            architecture=f"cross-layer transcoder of {n} layers, jump_relu{' with skip' if True in skips else ''}",
            scale=RAW,
            threshold=EACH,
            b_dec=NOT_SUBTRACTED,
            model=cfg.get("model_name"),
            site=named[0],
            target=named[1],
            notes=notes,
        ),
    )


@torch.no_grad()
def write(layers: Layers, folder: Path) -> None:
    """Write a file a layer, and config.json. Raises BadInput for widths that differ, or a skip path to later layers."""
    width, n = one_width(layers, "Gemma Scope 2"), len(layers.parts)
    for i, (p, b_dec) in enumerate(zip(layers.parts, layers.b_dec.split(width), strict=True)):
        if p.W_skip is not None and bool(p.W_skip[:, width:].any()):
            raise BadInput("Gemma Scope 2's skip paths reach their own layer only; these reach later ones.")
        w_dec = torch.nn.functional.pad(p.W_dec.reshape(p.d_sae, n - i, width), (0, 0, i, 0))
        tensors = {"w_enc": p.W_enc, "w_dec": w_dec, "b_enc": p.vectors["b_enc"], "b_dec": b_dec}
        tensors["threshold"] = p.vectors["theta"]
        if p.W_skip is not None:
            tensors[SKIP] = p.W_skip[:, :width]
        artefact.write_tensors(folder / FILE.format(i), {name: tensor.float() for name, tensor in tensors.items()})
    places = {
        side: [lens(s) for s in of_each(layers.facts.get(key), n)] for side, key in (("in", "site"), ("out", "target"))
    }
    artefact.write_json(
        folder / CONFIG,
        {
            "architecture": "jump_relu",
            "model_name": layers.facts.get("model"),
            **{f"hf_hook_point_{side}": names for side, names in places.items() if all(names)},
            "affine_connection": layers.parts[0].W_skip is not None,
            "width": layers.d_sae,
        },
    )
