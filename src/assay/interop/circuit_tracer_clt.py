"""circuit-tracer's cross-layer transcoders: W_enc_0.safetensors, W_dec_0.safetensors, W_enc_1.safetensors, ... and config.yaml.

    f^l = pre 1[pre > theta^l], or relu(pre) without thresholds;   pre = x^l W_enc_l^T + b_enc_l
    y^m = sum over l <= m of f^l W_dec_l[:, m - l] + b_dec_m

W_enc_l [d_sae, d], b_enc_l [d_sae], b_dec_l [d], threshold_l [d_sae] lie in W_enc_l.safetensors; W_dec_l [d_sae, L - l, d], whose slot
j writes to layer l + j, in the other. Nothing is subtracted, nothing is scaled. The library has a skip path in memory, but neither
writes nor reads one. Thresholds below 0 would pass negative codes and are refused, as in `circuit_tracer`.

Source: circuit-tracer 0.5, transcoder/cross_layer_transcoder.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop.circuit_tracer import hooks, write_yaml, yaml_lines
from assay.interop.foreign_files import fit, inside, safetensors_names, safetensors_of
from assay.interop.layers import Layers, layer, one_width, sites
from assay.interop.parts import Parts
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, threshold_of

ABOUT = "circuit-tracer: W_enc_N.safetensors + W_dec_N.safetensors + config.yaml"
HOLDS = frozenset({"relu", "jumprelu"})
WIRINGS = ("crosslayer",)


def detects(path: Path) -> bool:
    """A folder with the two files of layer 0."""
    files = [path / f"{name}_0.safetensors" for name in ("W_enc", "W_dec")]
    return path.is_dir() and all(file.stem in safetensors_names(file) for file in files)


def read(path: Path) -> Layers:
    """All layers of a folder. Raises BadInput where one is missing."""
    found = [re.fullmatch(r"W_(?:enc|dec)_(\d+)\.safetensors", file.name) for file in path.iterdir()]
    n = 1 + max(int(m[1]) for m in found if m)
    missing = [
        f"W_{side}_{i}.safetensors"
        for i in range(min(n, 1000))
        for side in ("enc", "dec")
        if not (path / f"W_{side}_{i}.safetensors").is_file()
    ]
    if missing:
        raise BadInput(
            f"{path} has files up to layer {n - 1}, but no {', '.join(missing[:4])}; its layers belong together, so none is read."
        )
    sizes: dict[str, int] = {}
    parts: list[Parts] = []
    jumps: set[bool] = set()
    for i in range(n):
        one, other = (inside(path, f"W_{side}_{i}.safetensors") for side in ("enc", "dec"))
        enc, dec = safetensors_of(one), safetensors_of(other)
        must = {f"W_enc_{i}": "d_sae d", f"b_enc_{i}": "d_sae", f"b_dec_{i}": "d"}
        fit(enc, one, sizes, must, may={f"threshold_{i}": "d_sae"})
        fit(dec, other, sizes | {"slots": n - i}, {f"W_dec_{i}": "d_sae slots d"})
        vectors = {"b_enc": enc[f"b_enc_{i}"]}
        if f"threshold_{i}" in enc:
            vectors["theta"] = enc[f"threshold_{i}"]
            if bool((vectors["theta"] < 0).any()):
                raise BadInput(
                    f"{one}: some thresholds are below 0, where circuit-tracer passes negative codes; no dictionary here does."
                )
        jumps.add("theta" in vectors)
        if len(jumps) > 1:
            raise BadInput(f"{path}: some layers have thresholds and some have none; its files do not belong together.")
        W_dec = dec[f"W_dec_{i}"].flatten(1)
        rule = "jumprelu" if "theta" in vectors else "relu"
        parts.append(layer(rule, enc[f"W_enc_{i}"].t(), vectors, W_dec, enc[f"b_dec_{i}"]))
    said = yaml_lines(path)
    names = [said.get(name) for name in ("feature_input_hook", "feature_output_hook")]
    places = [sites([f"blocks.{i}.{hook}" if hook else None for i in range(n)]) for hook in names]
    return Layers(
        parts=tuple(parts),
        widths=(sizes["d"],) * n,
        crosses=True,
        facts=facts(
            format="circuit_tracer_clt",
            architecture=f"cross-layer transcoder of {n} layers, {parts[0].rule}",
            scale=RAW,
            threshold=threshold_of(parts[0].rule),
            b_dec=NOT_SUBTRACTED,
            model=said.get("model_name"),
            site=places[0],
            target=places[1],
        ),
    )


@torch.no_grad()
def write(layers: Layers, folder: Path) -> None:
    """Write two files a layer, and config.yaml. Raises BadInput for a skip path, or widths that differ."""
    if any(p.W_skip is not None for p in layers.parts):
        raise BadInput("circuit-tracer's files of a cross-layer transcoder have no place for the skip paths W_skip.")
    width, n = one_width(layers, "circuit-tracer"), len(layers.parts)
    for i, (p, b_dec) in enumerate(zip(layers.parts, layers.b_dec.split(width), strict=True)):
        enc = {f"W_enc_{i}": p.W_enc.t(), f"b_enc_{i}": p.vectors["b_enc"], f"b_dec_{i}": b_dec}
        if "theta" in p.vectors:
            enc[f"threshold_{i}"] = p.vectors["theta"]
        dec = {f"W_dec_{i}": p.W_dec.reshape(p.d_sae, n - i, width)}
        for side, tensors in (("enc", enc), ("dec", dec)):
            artefact.write_tensors(
                folder / f"W_{side}_{i}.safetensors", {name: t.float() for name, t in tensors.items()}
            )
    reads, writes = (hooks(layers.facts.get(name), n)[0] for name in ("site", "target"))
    write_yaml(folder, "cross_layer_transcoder", layers.facts.get("model"), reads, writes)
