"""Goodfire's released SAEs: one .pt or .pth file with encoder_linear.weight [d_sae, d_in], encoder_linear.bias, decoder_linear.weight
[d_in, d_sae], decoder_linear.bias.

    f = relu(x encoder_linear.weight^T + encoder_linear.bias);   x_hat = f decoder_linear.weight^T + decoder_linear.bias

Nothing is subtracted. Model and layer stand in the file's name alone: Llama-3.1-8B-Instruct-SAE-l19.pth reads the residual stream after
layer 19. Source: the loader of SAELens 6.54, and the notebook of the release as quoted in it; no published file was at hand.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from assay.core import artefact
from assay.interop import folding
from assay.interop.foreign_files import clean, fit
from assay.interop.parts import Parts
from assay.interop.site_names import NO_THRESHOLD, NOT_SUBTRACTED, RAW, facts, lens
from assay.interop.torch_files import pt_names, pt_of, torch_bytes

ABOUT = "Goodfire: one .pt or .pth file (encoder_linear, decoder_linear)"
HOLDS = frozenset({"relu"})
WIRINGS = ("sae",)
SHAPES = {
    "encoder_linear.weight": "d_sae d_in",
    "encoder_linear.bias": "d_sae",
    "decoder_linear.weight": "d_in d_sae",
    "decoder_linear.bias": "d_in",
}


def detects(path: Path) -> bool:
    """A .pt or .pth file, or a folder of one, that names the parts."""
    return pt_names(path, "encoder_linear.weight", "decoder_linear.weight")


def read(path: Path) -> Parts:
    """The parts of one file."""
    file, state = pt_of(path)
    tensors = clean(state, file)
    fit(tensors, file, {}, SHAPES)
    named = re.fullmatch(r"(.+)-SAE-l(\d+)", file.stem)
    model = named[1] if named else None
    return Parts(
        rule="relu",
        W_enc=tensors["encoder_linear.weight"].t(),
        W_dec=tensors["decoder_linear.weight"].t(),
        b_dec=tensors["decoder_linear.bias"],
        vectors={"b_enc": tensors["encoder_linear.bias"]},
        facts=facts(
            format="goodfire",
            architecture="relu",
            scale=RAW,
            threshold=NO_THRESHOLD,
            b_dec=NOT_SUBTRACTED,
            model=f"meta-llama/{model}" if model and model.startswith("Llama-") else model,
            site=f"resid_post.{named[2]}" if named else None,
            notes=() if named else ("the file's name does not say model and layer",),
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write one file, named by model and layer where they are known."""
    p = folding.pre_bias(parts, False)
    tensors = {
        "encoder_linear.weight": p.W_enc.t(),
        "encoder_linear.bias": p.vectors["b_enc"],
        "decoder_linear.weight": p.W_dec.t(),
        "decoder_linear.bias": p.b_dec,
    }
    model = str(p.facts.get("model") or "").rpartition("/")[2]
    layer = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", lens(p.facts.get("site")) or "")
    name = f"{model}-SAE-l{layer[1]}" if layer and re.fullmatch(r"[A-Za-z][\w.-]{0,80}", model) else "sae"
    artefact.atomic_write(folder / f"{name}.pt", torch_bytes({key: tensor.float() for key, tensor in tensors.items()}))
