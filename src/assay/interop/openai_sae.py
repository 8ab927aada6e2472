"""OpenAI's GPT-2 autoencoders: one .pt with pre_bias, latent_bias, encoder.weight [d_sae, d_in], decoder.weight [d_in, d_sae].

    f     = relu((x - pre_bias) encoder.weight^T + latent_bias),   x_hat = f decoder.weight^T + pre_bias          activation ReLU

With activation TopK the k largest are kept, then the relu taken; the input first loses its mean and is divided by its deviation, row by
row, and the output gets both back (`dictionaries/rows.py`). stats_* and latents_* are counters of the run and are left out.

Source: the sheet's description of openai/sparse_autoencoder; its library was not run.
"""

from __future__ import annotations

from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import clean, fit, whole
from assay.interop.parts import Parts
from assay.interop.site_names import RAW, SUBTRACTED, facts, threshold_of
from assay.interop.torch_files import pt_names, pt_of, torch_bytes

ABOUT = "OpenAI's GPT-2 autoencoders: one .pt file"
HOLDS = frozenset({"relu", "topk"})
ROWS = ("as_is", "layer_norm")
WIRINGS = ("sae",)
SHAPES = {"pre_bias": "d_in", "latent_bias": "d_sae", "encoder.weight": "d_sae d_in", "decoder.weight": "d_in d_sae"}
NOT_WEIGHTS = ("stats_", "latents_", "activation")


def detects(path: Path) -> bool:
    """A .pt file, or a folder of one, that names the parts."""
    return pt_names(path, "pre_bias", "latent_bias")


def read(path: Path) -> Parts:
    """The parts of one file."""
    file, content = pt_of(path)
    activation = str(content.get("activation", "ReLU"))
    state = content.get("activation_state_dict")
    state = state if isinstance(state, dict) else {}
    if activation not in ("ReLU", "TopK") or str(state.get("postact_fn", "ReLU")) != "ReLU":
        raise BadInput(
            f"{file}: its activation is {activation[:40]!r} {str(state)[:80]}; ReLU, and TopK with a relu after it, are read."
        )
    k = whole(state.get("k"), "activation_state_dict.k", file) if activation == "TopK" else None
    tensors = clean({n: t for n, t in content.items() if not str(n).startswith(NOT_WEIGHTS)}, file)
    fit(tensors, file, {}, SHAPES)
    return Parts(
        rule="relu" if k is None else "topk",
        k=k,
        rows="as_is" if k is None else "layer_norm",
        W_enc=tensors["encoder.weight"].t(),
        W_dec=tensors["decoder.weight"].t(),
        b_dec=tensors["pre_bias"],
        vectors={"b_enc": tensors["latent_bias"]},
        subtracts=True,
        facts=facts(
            format="openai_sae",
            architecture=activation,
            scale=RAW if k is None else "each row by its own mean and deviation",
            threshold=threshold_of("relu" if k is None else "topk", k),
            b_dec=SUBTRACTED,
            model="gpt2" if "gpt2" in str(file) else None,
        ),
    )


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write autoencoder.pt. Raises BadInput for a rule and a normalisation that do not belong together."""
    if (parts.rule == "topk") != (parts.rows == "layer_norm"):
        raise BadInput(
            f"OpenAI's format normalises each row before TopK and never before ReLU; this is a {parts.rule} with rows {parts.rows}."
        )
    p = folding.pre_bias(parts, True)
    content = {
        "pre_bias": p.b_dec.float(),
        "latent_bias": p.vectors["b_enc"].float(),
        "encoder.weight": p.W_enc.t().float(),
        "decoder.weight": p.W_dec.t().float(),
        "activation": "ReLU" if p.k is None else "TopK",
        "activation_state_dict": {} if p.k is None else {"k": p.k, "postact_fn": "ReLU"},
    }
    artefact.atomic_write(folder / "autoencoder.pt", torch_bytes(content))
