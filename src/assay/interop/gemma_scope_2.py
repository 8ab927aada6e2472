"""Gemma Scope 2: params.safetensors with w_enc [d_in, d_sae], w_dec [d_sae, d_out], b_enc, b_dec, threshold, and config.json.

JumpReLU on raw activations; the encoder subtracts nothing. A transcoder may hold affine_skip_connection [d_in, d_out], applied as
x @ affine (not transposed). config.json names model and modules; where it is missing, the folders' names say what they can
(transcoder_all/layer_12_width_16k_l0_small_affine). Files whose w_dec has three axes are layers of a cross-layer transcoder (`gemma_scope_2_clt`).

Source: the loaders of SAELens and circuit-tracer; file names as published.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import fit, folder_of, inside, peek_json, safetensors_names, safetensors_of
from assay.interop.parts import Parts
from assay.interop.site_names import EACH, NOT_SUBTRACTED, RAW, facts

ABOUT = "Gemma Scope 2: params.safetensors (w_enc, w_dec, ...) + config.json"
HOLDS = frozenset({"jumprelu"})
WIRINGS = ("sae", "transcoder")
FILE, CONFIG, SKIP = "params.safetensors", "config.json", "affine_skip_connection"
SHAPES = {"w_enc": "d_in d_sae", "w_dec": "d_sae d_out", "b_enc": "d_sae", "b_dec": "d_out", "threshold": "d_sae"}
UNKNOWN = "unknown"  # written for a transcoder whose target is not known, so that it stays one
SITES = {"resid_post": "resid_post", "attn_out": "attn_out", "mlp_out": "mlp_out"}


def _file(path: Path) -> Path | None:
    folder = folder_of(path, FILE)
    if folder is not None:
        return folder / FILE
    return path if path.is_file() and path.suffix == ".safetensors" else None


def detects(path: Path) -> bool:
    """A safetensors file with the lower-case names."""
    file = _file(path)
    return file is not None and safetensors_names(file) >= set(SHAPES)


def read(path: Path) -> Parts:
    """The parts of one file."""
    file = _file(path) or path
    file = inside(file.parent, file.name)
    tensors = safetensors_of(file)
    if tensors["w_dec"].dim() == 3:
        raise BadInput(
            f"{file} is one layer of a cross-layer transcoder, whose layers belong together; name its folder, {file.parent}."
        )
    cfg = peek_json(file.parent, CONFIG)
    said = str(cfg.get("architecture", "jump_relu"))
    if said.replace("_", "") != "jumprelu":
        raise BadInput(f"{file.parent / CONFIG}: architecture is {said!r}; Gemma Scope 2 holds jump_relu only.")
    affine = cfg.get("affine_connection")
    if affine is not None and bool(affine) != (SKIP in tensors):
        raise BadInput(
            f"{file.parent / CONFIG} says affine_connection={affine}, but {FILE} {'has' if SKIP in tensors else 'has no'} {SKIP}; "
            "its files do not belong together."
        )
    sizes: dict[str, int] = {}
    fit(tensors, file, sizes, SHAPES, may={SKIP: "d_in d_out"})
    names = [part.lower() for part in file.absolute().parts]  # not resolved: in the hub's cache files are links
    reads, writes = cfg.get("hf_hook_point_in"), cfg.get("hf_hook_point_out")
    by_name = any(n.startswith("transcoder") for n in names)
    transcoder = SKIP in tensors or by_name or sizes["d_in"] != sizes["d_out"] or (bool(writes) and reads != writes)
    layer = next((m[1] for n in names if (m := re.match(r"layer_(\d+)_", n))), None)
    kind = next((site for n in names for folder, site in SITES.items() if n.removesuffix("_all") == folder), None)
    site = reads or (f"{kind}.{layer}" if kind and layer else f"mlp_in.{layer}" if by_name and layer else None)
    target = writes or (f"mlp_out.{layer}" if by_name and layer else None)
    return Parts(
        rule="jumprelu",
        W_enc=tensors["w_enc"],
        W_dec=tensors["w_dec"],
        b_dec=tensors["b_dec"],
        vectors={"b_enc": tensors["b_enc"], "theta": tensors["threshold"]},
        transcoder=transcoder,
        W_skip=tensors.get(SKIP),
        facts=facts(
            format="gemma_scope_2",
            architecture="jump_relu"
            + (" transcoder" if transcoder else "")
            + (" with skip" if SKIP in tensors else ""),
            scale=RAW,
            threshold=EACH,
            b_dec=NOT_SUBTRACTED,
            model=cfg.get("model_name"),
            site=site,
            target=target if transcoder and target != UNKNOWN else None,
            notes=() if cfg else ("config.json is missing; the folders' names say what the file is",),
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write params.safetensors and config.json."""
    p = folding.pre_bias(parts, False)
    tensors = {
        "w_enc": p.W_enc,
        "w_dec": p.W_dec,
        "b_enc": p.vectors["b_enc"],
        "b_dec": p.b_dec,
        "threshold": p.vectors["theta"],
    }
    if p.W_skip is not None:
        tensors[SKIP] = p.W_skip
    artefact.write_tensors(folder / FILE, {name: tensor.float() for name, tensor in tensors.items()})
    reads = p.facts.get("site")
    artefact.write_json(
        folder / CONFIG,
        {
            "architecture": "jump_relu",
            "model_name": p.facts.get("model"),
            "hf_hook_point_in": reads,
            "hf_hook_point_out": p.facts.get("target") or (UNKNOWN if p.transcoder else reads),
            "affine_connection": p.W_skip is not None,
            "width": p.d_sae,
        },
    )
