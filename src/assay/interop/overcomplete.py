"""overcomplete: a state dict in one .pt file, which says neither its class nor its k.

    pre   = norm(x W^T + b);   f = relu(pre) | the k largest relu(pre) | relu(pre) 1[relu(pre) >= theta];   x_hat = f D

encoder     encoder.final_block.0.{weight [d_sae, d_in], bias}, the plain linear one, with a batch norm's running mean and variance in
            encoder.final_block.1 where it has one (moved into W and b); or encoder.weight, encoder.bias; or tied, which is D^T
dictionary  dictionary._weights [d_sae, d_in]: D = exp(dictionary.multiplier) times its rows, which the library brings to length 1 at
            the next use; or the archetypal one, D = exp(multiplier) (W C + Relax), the rows of W positive with sum 1
class       `thresholds` make a JumpSAE, theta = exp(thresholds). SAE, TopKSAE and BatchTopKSAE look alike: the rule, k, and the
            running threshold (which the library does not store) must be said (`told`)

There is no bias b_dec, so only dictionaries without one can be written; what assay writes has read_as.json beside it, with the class to load
it into. Not read: encoders of several layers, a layer norm, attention; QSAE and the pursuits.

Source: overcomplete 0.3.0, sae/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop.foreign_files import clean, fit, is_there, peek_json
from assay.interop.parts import Parts
from assay.interop.site_names import RAW, facts, threshold_of
from assay.interop.told import BESIDE, Told, ask, write_beside
from assay.interop.torch_files import pt_names, pt_of, torch_bytes

ABOUT = "overcomplete: one .pt file, a state dict"
HOLDS = frozenset({"relu", "jumprelu", "topk"})
WIRINGS = ("sae",)
ASKS = True
NORM = ("weight", "bias", "running_mean", "running_var")
FINAL, TIED = "encoder.final_block.", "encoder.tied_to."
NEARLY = 0.05  # rows as near as this to length 1 were so before the last update
EPS = 1e-5  # torch.nn.BatchNorm1d
CLASSES = {"relu": "SAE", "topk": "TopKSAE", "jumprelu": "JumpSAE"}


def detects(path: Path) -> bool:
    """A .pt file, or a folder of one, that names the dictionary's parts."""
    return any(pt_names(path, "dictionary.multiplier", name) for name in ("dictionary._weights", "dictionary.Relax"))


def read(path: Path, told: Told | None = None) -> Parts:
    """The parts of one file. Raises BadInput asking for the rule where it is not told."""
    file, state = pt_of(path)
    tensors = {name: t for name, t in clean(state, file).items() if not name.endswith("num_batches_tracked")}
    tied = f"{TIED}multiplier" in tensors
    tensors = {name: t for name, t in tensors.items() if not name.startswith(TIED)}
    sizes: dict[str, int] = {}
    archetypal = "dictionary.Relax" in tensors
    plain, block = "encoder.weight" in tensors, f"{FINAL}0.weight" in tensors
    if not (tied or plain or block) or "Q" in tensors:
        raise BadInput(
            f"{file} is an overcomplete state dict without a linear encoder (a pursuit, or QSAE); it is not read."
        )
    must = {"dictionary.multiplier": ""}
    must |= (
        {"dictionary.W": "d_sae candidates", "dictionary.C": "candidates d_in", "dictionary.Relax": "d_sae d_in"}
        if archetypal
        else {"dictionary._weights": "d_sae d_in"}
    )
    must |= {"encoder.weight": "d_sae d_in"} if plain else {}
    must |= {f"{FINAL}0.weight": "d_sae d_in", f"{FINAL}0.bias": "d_sae"} if block else {}
    normed = f"{FINAL}1.running_var" in tensors
    must |= {f"{FINAL}1.{name}": "d_sae" for name in NORM} if normed else {}
    fit(tensors, file, sizes, must, may={"thresholds": "d_sae", **({} if block else {"encoder.bias": "d_sae"})})
    W_dec, notes = _dictionary(tensors, archetypal, file)
    W_enc = W_dec.t() if tied else tensors["encoder.weight" if plain else f"{FINAL}0.weight"].t()
    b_enc = tensors.get("encoder.bias", tensors.get(f"{FINAL}0.bias", torch.zeros(sizes["d_sae"])))
    if normed:
        weight, bias, mean, variance = (tensors[f"{FINAL}1.{name}"] for name in NORM)
        if bool((variance < 0).any()):
            raise BadInput(f"{file}: the batch norm's running_var holds numbers below 0.")
        factor = weight / (variance + EPS).sqrt()
        W_enc, b_enc = W_enc * factor, (b_enc - mean) * factor + bias
    what = f"{'a tied' if tied else 'a linear'} encoder{' with a batch norm' if normed else ''}"
    what += f" and {'an archetypal' if archetypal else 'a plain'} dictionary"
    looks = f"an overcomplete state dict, {what}, {sizes['d_sae']} latents over width {sizes['d_in']}"
    jump = "thresholds" in tensors
    said = ask((told or Told()).beside(file), looks, ("jumprelu",) if jump else ("relu", "topk", "batchtopk"), file)
    vectors = {"b_enc": b_enc, **({"theta": tensors["thresholds"].exp()} if jump else {})}
    return Parts(
        **said,
        W_enc=W_enc,
        W_dec=W_dec,
        b_dec=torch.zeros(sizes["d_in"]),
        vectors=vectors,
        facts=facts(
            format="overcomplete",
            architecture=f"{said['rule']}, {what}",
            scale=RAW,
            threshold=threshold_of(said["rule"], said["k"]),
            b_dec="none",
            notes=notes,
        ),
    )


def _dictionary(tensors: dict[str, Tensor], archetypal: bool, file: Path) -> tuple[Tensor, tuple[str, ...]]:
    """D [d_sae, d_in] as the library computes it at its next use, and what is to be said of it."""
    gain = tensors["dictionary.multiplier"].float().exp()
    if not bool(torch.isfinite(gain)):
        raise BadInput(f"{file}: exp(dictionary.multiplier) is {float(gain)}.")
    if archetypal:
        weights = tensors["dictionary.W"].relu()
        weights = weights / (weights.sum(1, keepdim=True) + 1e-8)
        return gain * (weights @ tensors["dictionary.C"] + tensors["dictionary.Relax"]), (
            "Relax is taken as it is stored",
        )
    rows = tensors["dictionary._weights"]
    norms = rows.norm(dim=1, keepdim=True)
    off = float((norms - 1).abs().max())
    own = is_there(file.parent, BESIDE) and peek_json(file.parent, BESIDE).get("normalization") == "identity"
    if own or off > NEARLY:
        note = "rows of the dictionary have not length 1, and are read as stored (normalization l1, max_l2 or identity)"
        return gain * rows, (() if own else (note,))
    return gain * rows / (norms + 1e-8), ()


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write sae.pt, and read_as.json with the class to load it into. Raises BadInput for a b_dec that is not 0."""
    if bool(parts.b_dec.any()):
        raise BadInput("overcomplete has no place for the decoder bias b_dec, which is not 0 here.")
    state: dict[str, Any] = {
        f"{FINAL}0.weight": parts.W_enc.t().float(),
        f"{FINAL}0.bias": parts.vectors["b_enc"].float(),
        "dictionary._weights": parts.W_dec.float(),
        "dictionary.multiplier": torch.tensor(0.0),
    }
    if parts.rule == "jumprelu":
        state = {"thresholds": parts.vectors["theta"].float().clamp_min(1e-30).log(), **state}  # 0 has no logarithm
    artefact.atomic_write(folder / "sae.pt", torch_bytes(state))
    write_beside(parts, folder, **{"class": CLASSES[parts.rule], "normalization": "identity"})
