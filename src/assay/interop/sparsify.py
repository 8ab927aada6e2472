"""sparsify (eai-sparsify): cfg.json + sae.safetensors with encoder.weight [d_sae, d_in], encoder.bias, W_dec [d_sae, d_in], b_dec.

TopK of relu(pre). The encoder subtracts b_dec unless `transcode`; an optional W_skip [d_in, d_in] adds x W_skip^T. The folder's name is
the module's path in the model (layers.3, layers.3.mlp). `signed` in older files: the k largest |pre| with their signs. groupmax (one
latent of each of k groups) is said and refused: assay's dictionaries have no such rule.

SAELens' own loader of this format transposes W_dec, which is stored latent by latent already, and takes `normalize_decoder` for
whether b_dec is subtracted; neither is so.
Source: eai-sparsify 1.3, sparse_coder.py and fused_encoder.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import fit, folder_of, inside, json_of, safetensors_of, whole
from assay.interop.parts import Parts
from assay.interop.site_names import NOT_SUBTRACTED, RAW, SUBTRACTED, facts, threshold_of

ABOUT = "sparsify: cfg.json + sae.safetensors"
HOLDS = frozenset({"topk"})
WIRINGS = ("sae", "transcoder")
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def detects(path: Path) -> bool:
    """A folder with sae.safetensors."""
    return folder_of(path, WEIGHTS) is not None


def read(path: Path) -> Parts:
    """The parts of one hookpoint's folder."""
    folder = folder_of(path, WEIGHTS) or path
    file = inside(folder, WEIGHTS)
    cfg = json_of(inside(folder, CONFIG))
    if cfg.get("n_targets"):
        raise BadInput(
            f"{folder} is one layer of a cross-layer transcoder, whose layers belong together; name {folder.parent}."
        )
    activation, signed = cfg.get("activation", "topk"), bool(cfg.get("signed", False))
    if activation != "topk":
        raise BadInput(
            f"{folder / CONFIG}: activation is {activation!r}; only topk is read"
            + (
                ", since groupmax takes one latent of each of k groups and no dictionary here does."
                if activation == "groupmax"
                else "."
            )
        )
    tensors = safetensors_of(file)
    sizes = {"d_in": whole(cfg.get("d_in"), "d_in", folder / CONFIG)}
    if cfg.get("num_latents"):
        sizes["d_sae"] = whole(cfg["num_latents"], "num_latents", folder / CONFIG)
    elif cfg.get("expansion_factor"):
        sizes["d_sae"] = sizes["d_in"] * whole(cfg["expansion_factor"], "expansion_factor", folder / CONFIG)
    shapes = {"encoder.weight": "d_sae d_in", "encoder.bias": "d_sae", "W_dec": "d_sae d_in", "b_dec": "d_in"}
    skip = bool(cfg.get("skip_connection", False))
    fit(tensors, file, sizes, {**shapes, **({"W_skip": "d_in d_in"} if skip else {})})
    transcode = bool(cfg.get("transcode", False))
    k = whole(cfg.get("k"), "k", folder / CONFIG)
    rule = "abstopk" if signed else "topk"
    name = folder.resolve().name
    looks_like_a_site = "." in name or name in ("embed_tokens", "wte")
    return Parts(
        rule=rule,
        W_enc=tensors["encoder.weight"].t(),
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        vectors={"b_enc": tensors["encoder.bias"]},
        subtracts=not transcode,
        transcoder=transcode,
        k=k,
        W_skip=tensors["W_skip"].t() if skip else None,
        facts=facts(
            format="sparsify",
            architecture=f"{activation}{' signed' if signed else ''}{' transcoder' if transcode else ''}{' with skip' if skip else ''}",
            scale=RAW,
            threshold=threshold_of(rule, k),
            b_dec=NOT_SUBTRACTED if transcode else SUBTRACTED,
            site=(f"{name}:in" if transcode else name) if looks_like_a_site else None,
            target=f"{name}:out" if transcode and looks_like_a_site else None,
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write one hookpoint's folder. Raises BadInput naming the part that it cannot represent."""
    if parts.d_in != parts.d_out:
        raise BadInput(
            f"sparsify holds one width for input and output; this transcoder has d_in={parts.d_in}, d_out={parts.d_out}."
        )
    if not parts.transcoder:
        parts = folding.pre_bias(parts, True)
    tensors = {
        "encoder.weight": parts.W_enc.t(),
        "encoder.bias": parts.vectors["b_enc"],
        "W_dec": parts.W_dec,
        "b_dec": parts.b_dec,
        **({} if parts.W_skip is None else {"W_skip": parts.W_skip.t()}),
    }
    cfg: dict[str, Any] = {
        "activation": "topk",
        "expansion_factor": max(1, parts.d_sae // parts.d_in),
        "normalize_decoder": bool(torch.allclose(parts.norms, torch.ones_like(parts.norms), atol=1e-3)),
        "num_latents": parts.d_sae,
        "k": parts.k,
        "multi_topk": False,
        "skip_connection": parts.W_skip is not None,
        "transcode": parts.transcoder,
        "d_in": parts.d_in,
    }
    artefact.write_tensors(folder / WEIGHTS, {name: tensor.float() for name, tensor in tensors.items()})
    artefact.write_json(folder / CONFIG, cfg)
