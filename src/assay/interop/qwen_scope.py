"""Qwen Scope: one file a layer, layer0.sae.pt, with W_enc [d_sae, d_in], W_dec [d_in, d_sae], b_enc [d_sae], b_dec [d_in].

    f = TopK(relu(x W_enc^T + b_enc)), k of each row;   x_hat = f W_dec^T + b_dec

Nothing is subtracted; x is the residual stream after the layer. k stands in the repository's name alone, as L0_50 in
SAE-Res-Qwen3-1.7B-Base-W32K-L0_50; a file elsewhere needs it said (`told`).

Source: the loader of SAELens 6.54; no published file was at hand.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import clean, fit
from assay.interop.parts import Parts
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, lens, threshold_of
from assay.interop.told import Told, ask, write_beside
from assay.interop.torch_files import pt_names, pt_of, torch_bytes

ABOUT = "Qwen Scope: layerN.sae.pt"
HOLDS = frozenset({"topk"})
WIRINGS = ("sae",)
ASKS = True
LAYER = re.compile(r"layer(\d+)\.sae\.pt")
SHAPES = {"W_enc": "d_sae d_in", "W_dec": "d_in d_sae", "b_enc": "d_sae", "b_dec": "d_in"}


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.glob("layer*.sae.pt")) if path.is_dir() else []
    return [file for file in found if LAYER.fullmatch(file.name) and file.is_file()]


def detects(path: Path) -> bool:
    """A file of that name with the parts' names in it, or a folder of them."""
    files = _files(path)
    return bool(files) and pt_names(files[0], *SHAPES)


def read(path: Path, told: Told | None = None) -> Parts:
    """The parts of one layer's file. Raises BadInput naming one where there are several, or asking for k."""
    files = _files(path)
    if len(files) != 1:
        raise BadInput(f"{path} holds {len(files)} layers, each a dictionary of its own; name one, such as {files[0]}.")
    file, state = pt_of(files[0])
    tensors = clean(state, file)
    sizes: dict[str, int] = {}
    fit(tensors, file, sizes, SHAPES)
    named = next(
        (m for part in reversed(file.resolve().parts) if (m := re.search(r"SAE-Res-(.+?)-W\w+-L0_(\d{1,6})", part))),
        None,
    )
    told = (told or Told()).beside(file)
    if told.k is None and named is not None:
        told = Told(told.rule, int(named[2]) or None)
    found = f"a Qwen Scope file, {sizes['d_sae']} latents over width {sizes['d_in']}, in no folder with a name such as ...-L0_50"
    said = ask(told, found, ("topk",), file)
    layer = LAYER.fullmatch(file.name)
    return Parts(
        **said,
        W_enc=tensors["W_enc"].t(),
        W_dec=tensors["W_dec"].t(),
        b_dec=tensors["b_dec"],
        vectors={"b_enc": tensors["b_enc"]},
        facts=facts(
            format="qwen_scope",
            architecture="topk",
            scale=RAW,
            threshold=threshold_of("topk", said["k"]),
            b_dec=NOT_SUBTRACTED,
            model=f"Qwen/{named[1]}" if named else None,
            site=f"resid_post.{layer[1]}" if layer else None,
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write layerN.sae.pt and its k beside it."""
    p = folding.pre_bias(parts, False)
    tensors = {"W_enc": p.W_enc.t(), "W_dec": p.W_dec.t(), "b_enc": p.vectors["b_enc"], "b_dec": p.b_dec}
    layer = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", lens(p.facts.get("site")) or "")
    name = f"layer{layer[1] if layer else 0}.sae.pt"
    artefact.atomic_write(folder / name, torch_bytes({key: tensor.float() for key, tensor in tensors.items()}))
    write_beside(p, folder)
