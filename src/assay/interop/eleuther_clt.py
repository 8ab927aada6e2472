"""EleutherAI's cross-layer transcoders (clt-training, a branch of sparsify): a folder a layer, each with cfg.json + sae.safetensors.

    z^l   = c_l x^l;   f^l = TopK(relu(z^l encoder.weight^T + encoder.bias)), k in each layer
    y^m   = (sum over l of f^l W_{l->m} + b_{l->m} + z^l W_skip_{l->m}^T) / c'_m

n_targets says how many layers a layer writes to, its own first: W_decs.j [d_sae, d], b_decs.j [d], W_skips.j [d, d] of the target l + j.
coalesce_topk = per-layer: a target holds the decoders of all its sources, W_dec [(m + 1) d_sae, d] source by source, and one b_dec
and W_skip of its own; concat: one W_dec [d_sae, d] that all its sources share. per_source_tied: one W_dec a source, for all targets.
normalize_io: c = sqrt(d) / in_norm, c' = sqrt(d) / out_norm.

Added to each code that is on, post_encs give an output that no matrix can: they must be 0. post_enc_scales are moved into W_dec.
Refused and said: topk_coalesced and batchtopk (a choice over layers or rows), secondary_target_tied, divide_cross_layer.
Layers are the folders in natural order (layers.2.mlp before layers.10.mlp).

Source: the code of clt-training (sparse_coder.py, runner.py), read; it was not run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop.foreign_files import fit, inside, is_there, json_of, peek_json, safetensors_of, whole
from assay.interop.layers import Layers, layer, of_each, one_width, sites
from assay.interop.parts import Parts
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, threshold_of

ABOUT = "EleutherAI clt-training: a folder a layer with cfg.json (n_targets) + sae.safetensors"
HOLDS = frozenset({"topk"})
WIRINGS = ("crosslayer",)
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
MANY = 1000  # layers


def _folders(path: Path) -> list[Path]:
    found = [f for f in path.iterdir() if f.is_dir() and is_there(f, WEIGHTS)] if path.is_dir() else []
    return sorted(found, key=lambda f: _order(f.name))


def _order(name: str) -> list[tuple[int, str]]:
    """Natural order: numbers by size."""
    return [(int(w), "") if w.isdecimal() else (-1, w) for w in re.split(r"(\d+)", name)]


def detects(path: Path) -> bool:
    """A folder of layers' folders whose configuration counts its targets."""
    folders = _folders(path)
    return bool(folders) and bool(peek_json(folders[0], CONFIG).get("n_targets"))


def read(path: Path) -> Layers:
    """All layers of a folder."""
    folders = _folders(path)
    n = len(folders)
    if n > MANY:
        raise BadInput(f"{path} holds {n} layers; no model has as many.")
    cfgs = [json_of(inside(folder, CONFIG)) for folder in folders]
    for folder, cfg in zip(folders, cfgs, strict=True):
        _check(folder / CONFIG, cfg)
    how = {str(cfg.get("coalesce_topk", "none")) for cfg in cfgs}
    if len(how) > 1 or not how <= {"none", "per-layer", "concat"}:
        raise BadInput(
            f"{path}: coalesce_topk is {', '.join(sorted(how))[:60]}; none, per-layer or concat for all is read."
        )
    layout = how.pop()
    sizes = {"d": whole(cfgs[0].get("d_in"), "d_in", folders[0] / CONFIG)}
    found = [
        _tensors(folder, cfg, layout, i, n, sizes) for i, (folder, cfg) in enumerate(zip(folders, cfgs, strict=True))
    ]
    k = {whole(cfg.get("k"), "k", folder / CONFIG) for folder, cfg in zip(folders, cfgs, strict=True)}
    parts: list[Parts] = []
    skip = any(bool(cfg.get("skip_connection")) for cfg in cfgs)
    for i, (tensors, cfg) in enumerate(zip(found, cfgs, strict=True)):
        W_dec, b_dec, skips = _written(found, layout, i, sizes)
        more: dict[str, Any] = {
            "k": whole(cfg.get("k"), "k", path),
            "scale": (_scale(tensors, "in_norm", sizes["d"], path), 1.0),
        }
        vectors = {"b_enc": tensors["encoder.bias"]}
        W_enc = tensors["encoder.weight"].t()
        parts.append(layer("topk", W_enc, vectors, W_dec, b_dec, skip=skips if skip else None, **more))
    names = [folder.name for folder in folders]
    return Layers(
        parts=tuple(parts),
        widths=(sizes["d"],) * n,
        crosses=True,
        out=tuple(_scale(tensors, "out_norm", sizes["d"], path) for tensors in found),
        facts=facts(
            format="eleuther_clt",
            architecture=f"cross-layer transcoder of {n} layers, topk{' with skip' if skip else ''}, decoders {layout}",
            scale="sqrt(d) / norm, a number for each layer's input and output" if "in_norm" in found[0] else RAW,
            threshold=threshold_of("topk", max(k)),
            b_dec=NOT_SUBTRACTED,
            site=sites([f"{name}:in" for name in names]),
            target=sites([f"{name}:out" for name in names]),
        ),
    )


def _check(config: Path, cfg: dict[str, Any]) -> None:
    for key, right in (
        ("activation", "topk"),
        ("transcode", True),
        ("topk_coalesced", False),
        ("secondary_target_tied", False),
        ("divide_cross_layer", False),
    ):
        if cfg.get(key, right if key != "transcode" else False) != right:
            raise BadInput(
                f"{config}: {key} is {str(cfg.get(key))[:40]}; a cross-layer transcoder with {right} is read."
            )


def _tensors(
    folder: Path, cfg: dict[str, Any], layout: str, i: int, n: int, sizes: dict[str, int]
) -> dict[str, Tensor]:
    """The checked tensors of one layer's folder; decoders have the names W_decs.j, b_decs.j, W_skips.j, or W_dec, b_dec, W_skip."""
    file = inside(folder, WEIGHTS)
    tensors = safetensors_of(file)
    targets = whole(cfg.get("n_targets"), "n_targets", folder / CONFIG)
    if targets != n - i:
        raise BadInput(
            f"{folder / CONFIG}: n_targets is {targets}, but {n - i} layers follow from its own on; a transcoder that skips layers "
            "is not read."
        )
    tied, skip = bool(cfg.get("per_source_tied")), bool(cfg.get("skip_connection"))
    here = {**sizes, "stacked": (i + 1) * sizes["d_sae"]} if "d_sae" in sizes else dict(sizes)
    must = {"encoder.weight": "d_sae d", "encoder.bias": "d_sae"}
    if layout == "none":
        must |= {"W_dec": "d_sae d"} if tied else {f"W_decs.{j}": "d_sae d" for j in range(targets)}
        must |= {f"b_decs.{j}": "d" for j in range(targets)}
        must |= {f"W_skips.{j}": "d d" for j in range(targets)} if skip else {}
    else:
        must |= {"W_dec": "d_sae d" if layout == "concat" or not i else "stacked d", "b_dec": "d"}
        must |= {"W_skip": "d d"} if skip else {}
    if cfg.get("normalize_io"):
        must |= {"in_norm": "one", "out_norm": "one"}
    posts = {f"{name}.{j}": "d_sae" for name in ("post_encs", "post_enc_scales") for j in range(targets)}
    if layout == "none":  # the first of a list is stored under both its names by some versions
        posts |= {
            name: shape for name, shape in (("W_dec", "d_sae d"), ("b_dec", "d"), ("W_skip", "d d")) if name not in must
        }
    fit(tensors, file, here | {"one": 1}, must, may=posts)
    sizes["d_sae"] = tensors["encoder.weight"].shape[0]
    if layout != "none" and any(name.startswith("post_enc_scales") for name in tensors):
        raise BadInput(f"{file}: post_enc_scales with coalesce_topk={layout} are not read.")
    if any(bool(t.any()) for name, t in tensors.items() if name.startswith("post_encs")):
        raise BadInput(
            f"{file}: post_encs are not 0; they add to every code that is on, which no dictionary here does."
        )
    return tensors


def _written(
    found: list[dict[str, Tensor]], layout: str, i: int, sizes: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """W_dec [d_sae, written], b_dec [written] and W_skip [d, written or its own width] of layer i."""
    n, d, d_sae = len(found), sizes["d"], sizes["d_sae"]
    zeros = torch.zeros(d, d)
    own = found[i]
    if layout == "none":
        scales = [own.get(f"post_enc_scales.{j}", torch.ones(d_sae))[:, None] for j in range(n - i)]
        decoders = [own.get(f"W_decs.{j}", own.get("W_dec", zeros)) * scale for j, scale in enumerate(scales)]
        biases = torch.cat([own[f"b_decs.{j}"] for j in range(n - i)])
        return (
            torch.cat(decoders, dim=1),
            biases,
            torch.cat([own.get(f"W_skips.{j}", zeros).t() for j in range(n - i)], dim=1),
        )
    rows = slice(None) if layout == "concat" else slice(i * d_sae, (i + 1) * d_sae)
    return torch.cat([found[m]["W_dec"][rows] for m in range(i, n)], dim=1), own["b_dec"], own.get("W_skip", zeros).t()


def _scale(tensors: dict[str, Tensor], name: str, d: int, path: Path) -> float:
    if name not in tensors:
        return 1.0
    value = float(tensors[name])
    if not 1e-6 < value < 1e9:
        raise BadInput(f"{path}: {name} is {value}, so the scale of a layer is not known.")
    return d**0.5 / value


@torch.no_grad()
def write(layers: Layers, folder: Path) -> None:
    """Write a folder a layer. Raises BadInput for widths that differ."""
    width, n = one_width(layers, "clt-training"), len(layers.parts)
    said = of_each(layers.facts.get("site"), n)
    names = [site.removesuffix(":in") if site else f"layers.{i}.mlp" for i, site in enumerate(said)]
    plain = len(set(names)) == n and all(re.fullmatch(r"[A-Za-z]\w*(\.\w+)*", name) for name in names)
    names = names if plain and names == sorted(names, key=_order) else [f"layers.{i}.mlp" for i in range(n)]
    skip = any(p.W_skip is not None for p in layers.parts)
    for i, (name, p) in enumerate(zip(names, layers.parts, strict=True)):
        tensors = {"encoder.weight": p.W_enc.t(), "encoder.bias": p.vectors["b_enc"]}
        tensors |= {f"W_decs.{j}": t for j, t in enumerate(p.W_dec.split(width, dim=1))}
        tensors |= {f"b_decs.{j}": t for j, t in enumerate(p.b_dec.split(width))}
        if skip:
            W_skip = torch.zeros(width, p.d_out) if p.W_skip is None else p.W_skip
            tensors |= {f"W_skips.{j}": t.t() for j, t in enumerate(W_skip.split(width, dim=1))}
        tensors |= {f"post_encs.{j}": torch.zeros(p.d_sae) for j in range(n - i)}
        cfg: dict[str, Any] = {
            "activation": "topk",
            "num_latents": p.d_sae,
            "expansion_factor": max(1, p.d_sae // width),
            "normalize_decoder": False,
            "k": p.k,
            "skip_connection": skip,
            "transcode": True,
            "n_targets": n - i,
            "n_sources": i,
            "normalize_io": False,
            "train_post_encoder": False,
            "coalesce_topk": "none",
            "topk_coalesced": False,
            "d_in": width,
        }
        (folder / name).mkdir()
        artefact.write_tensors(folder / name / WEIGHTS, {key: tensor.float() for key, tensor in tensors.items()})
        artefact.write_json(folder / name / CONFIG, cfg)
