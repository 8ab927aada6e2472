"""Gemma Scope 1: one params.npz with W_enc [d_in, d_sae], W_dec [d_sae, d_out], b_enc, b_dec, threshold [d_sae].

JumpReLU on raw activations; the encoder subtracts nothing. Model, layer and site stand in the path alone
(gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82/params.npz): res is resid_post, mlp is mlp_out, att is attn_z with its heads
concatenated, transcoders read mlp_in and predict mlp_out. The dictionaries in `embedding/` are stored for embeddings times
sqrt(d_in): their W_enc is divided by that and W_dec multiplied.

Source: arXiv 2408.05147, App. B, and the loaders of SAELens. Files with lower-case names or a scaling_factor of ones exist and are read.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import fit, folder_of, inside, npz_of
from assay.interop.parts import Parts
from assay.interop.site_names import EACH, NOT_SUBTRACTED, RAW, facts

ABOUT = "Gemma Scope 1: params.npz"
HOLDS = frozenset({"jumprelu"})
WIRINGS = ("sae", "transcoder")
FILE = "params.npz"
SHAPES = {"W_enc": "d_in d_sae", "W_dec": "d_sae d_out", "b_enc": "d_sae", "b_dec": "d_out", "threshold": "d_sae"}
SITES = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_z"}
MODELS = {"2b": "google/gemma-2-2b", "9b": "google/gemma-2-9b", "27b": "google/gemma-2-27b"}


def detects(path: Path) -> bool:
    """A params.npz, or any .npz that is named itself."""
    return folder_of(path, FILE) is not None or (path.is_file() and path.suffix == ".npz")


def read(path: Path) -> Parts:
    """The parts of one file."""
    folder = folder_of(path, FILE)
    file = inside(folder, FILE) if folder is not None else inside(path.parent, path.name)
    tensors = {re.sub(r"^w_", "W_", name): tensor for name, tensor in npz_of(file).items()}
    scaling = tensors.pop("scaling_factor", None)
    if scaling is not None and not bool((scaling == 1).all()):
        raise BadInput(f"{file}: scaling_factor is not 1, and no Gemma Scope release says what it would mean.")
    names = [part.lower() for part in file.absolute().parts]  # not resolved: in the hub's cache files are links
    transcoder = any("transcoder" in name for name in names)
    sizes: dict[str, int] = {}
    fit(tensors, file, sizes, SHAPES)
    embedding = "embedding" in names
    root = sizes["d_in"] ** 0.5 if embedding else 1.0
    layer = next((m[1] for name in names if (m := re.fullmatch(r"layer_(\d+)", name))), None)
    repo = next(
        (m for name in names if (m := re.search(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att|transcoders)", name))), None
    )
    model = None if repo is None else MODELS.get(repo[1], "") + ("-it" if repo[2] == "it" else "")
    site = target = None
    if embedding:
        site = "embed"
    elif transcoder and layer is not None:
        site, target = f"mlp_in.{layer}", f"mlp_out.{layer}"
    elif repo is not None and layer is not None:
        site = f"{SITES[repo[3]]}.{layer}"
    notes = () if transcoder or repo is not None else ("the path does not say which site; read as an SAE",)
    return Parts(
        rule="jumprelu",
        W_enc=tensors["W_enc"] / root,
        W_dec=tensors["W_dec"] * root,
        b_dec=tensors["b_dec"],
        vectors={"b_enc": tensors["b_enc"], "theta": tensors["threshold"]},
        transcoder=transcoder or sizes["d_in"] != sizes["d_out"],
        facts=facts(
            format="gemma_scope",
            architecture="jumprelu" + (" transcoder" if transcoder else ""),
            scale=f"{RAW}, times sqrt(d_in)" if embedding else RAW,
            threshold=EACH,
            b_dec=NOT_SUBTRACTED,
            model=model or None,
            site=site,
            target=target,
            notes=notes,
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write params.npz. Raises BadInput for a skip path."""
    if parts.W_skip is not None:
        raise BadInput("A params.npz of Gemma Scope has no place for the skip path W_skip; --to gemma_scope_2 has one.")
    p = folding.pre_bias(parts, False)
    arrays = {
        "W_enc": p.W_enc,
        "W_dec": p.W_dec,
        "b_enc": p.vectors["b_enc"],
        "b_dec": p.b_dec,
        "threshold": p.vectors["theta"],
    }
    artefact.atomic_write(folder / FILE, npz_bytes({name: t.float().cpu().numpy() for name, t in arrays.items()}))


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz in memory, so that it can be written in one piece."""
    import io

    out = io.BytesIO()
    np.savez(out, **{name: np.ascontiguousarray(a) for name, a in arrays.items()})  # type: ignore[arg-type]
    return out.getvalue()
