"""A dictionary on disk: config.json, weights.safetensors, provenance.json, golden.safetensors, checksums.json.

What is written is the export in raw space: it reads raw activations and predicts raw activations. The scale of the space it was
trained in is stored beside it, and `load(path, space="training")` goes back there. `checksums.json` is written last, so a folder
without it is unfinished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay import kernels
from assay.core import artefact
from assay.core.config import to_json
from assay.core.errors import AssayError, BadInput, Corrupt, NotFound
from assay.dictionaries.base import Dictionary
from assay.dictionaries.rescaling import rescaled
from assay.dictionaries.whole_rows import WholeRows
from assay.kernels import Above, Codes
from assay.kernels.selection import keys

CONFIG, WEIGHTS, PROVENANCE, GOLDEN = "config.json", "weights.safetensors", "provenance.json", "golden.safetensors"
DOCUMENTS = "documents.json"  # ids of the documents it was trained on
TOLERANCE = 1e-4  # golden values, relative; and how near a threshold a pair may change sides
GOLDEN_ROWS = 64


@torch.no_grad()
def save(
    dictionary: Dictionary,
    folder: Path,
    *,
    golden: Tensor,
    provenance: dict[str, Any],
    convention: str = "none",
    documents: list[str] | None = None,
) -> None:
    """Write a trained dictionary. It holds training space; `dictionary.scale` says which, and the export is folded.

    golden: raw activations [n, d_in] whose codes are stored for `verify`; documents: ids of the training documents.
    """
    c_in, c_out = dictionary.scale
    exported = type(dictionary)(dictionary.config)
    exported.load_state_dict(rescaled(dictionary, c_in, c_out))
    exported.to(torch.float32)
    exported.requires_grad_(False)
    x = golden[:GOLDEN_ROWS].float().cpu()
    codes = exported.encode_sparse(x)
    artefact.write_tensors(folder / WEIGHTS, exported.state_dict())
    x_hat = exported.reconstruct(x, codes)
    write_around(folder, dictionary, x, codes, x_hat, provenance=provenance, convention=convention, documents=documents)


def write_around(
    folder: Path,
    dictionary: Dictionary,
    x: Tensor,
    codes: Codes,
    x_hat: Tensor,
    *,
    provenance: dict[str, Any],
    convention: str = "none",
    documents: list[str] | None = None,
) -> None:
    """Everything that lies beside the weights, which are written: golden rows x with their codes and outputs, provenance,
    documents, configuration; the checksums last."""
    c_in, c_out = dictionary.scale
    artefact.write_tensors(
        folder / GOLDEN,
        {"x": x, "row": codes.row, "latent": codes.latent, "value": codes.value, "x_hat": x_hat},
    )
    artefact.write_json(folder / PROVENANCE, provenance)
    artefact.write_json(folder / DOCUMENTS, sorted(documents or []))
    artefact.write_json(
        folder / CONFIG,
        {
            "schema": artefact.SCHEMA,
            "arch": dictionary.arch,
            "options": to_json(dictionary.config),
            "scale": {"convention": convention, "c_in": c_in, "c_out": c_out},
        },
    )
    artefact.write_checksums(folder, [CONFIG, WEIGHTS, PROVENANCE, GOLDEN, DOCUMENTS])


def load(path: str | Path, *, space: str = "raw", check: bool = True) -> Dictionary:
    """Read a dictionary of our own format.

    space: "raw" reads and predicts raw activations; "training" has the scale of its training in `.scale`.
    Raises NotFound when there is none, Corrupt (naming the file) when something was torn or altered.
    """
    folder = Path(path)
    if not (folder / CONFIG).is_file() or not (folder / artefact.CHECKSUMS).is_file():
        raise NotFound(_nothing_there(folder))
    if check:
        artefact.verify_checksums(folder)
    from assay.dictionaries import class_of

    stored = artefact.read_json(folder / CONFIG)
    if stored.get("schema") != artefact.SCHEMA:
        raise Corrupt(
            f"{folder / CONFIG} has schema {stored.get('schema')}; this version reads {artefact.SCHEMA}. "
            "Use the version of assay that wrote it."
        )
    cls = class_of(str(stored.get("arch")))
    tensors = artefact.read_tensors(folder / WEIGHTS)
    try:
        config = cls.Config(**stored["options"])
        with torch.device("meta"):  # shapes only: a configuration that lies about its size must not fill the memory
            _check_shapes(cls(config), tensors, folder / WEIGHTS)
        dictionary = cls(config)
        scale = _scale(stored["scale"]["c_in"]), _scale(stored["scale"]["c_out"])
    except (AssayError, KeyError, TypeError) as error:
        raise Corrupt(f"{folder / CONFIG} does not describe a {stored.get('arch')} dictionary: {error}") from None
    dictionary.load_state_dict(tensors)
    dictionary.requires_grad_(False)
    dictionary.path = folder
    dictionary.provenance = artefact.read_json(folder / PROVENANCE)
    if space == "training":
        dictionary.load_state_dict(rescaled(dictionary, *scale, unfold=True))
        dictionary.scale = scale
    return dictionary


def _check_shapes(dictionary: Dictionary, tensors: dict[str, Tensor], path: Path) -> None:
    own = dictionary.state_dict()
    if set(own) != set(tensors):
        raise Corrupt(
            f"{path} holds {sorted(tensors)}, but a {dictionary.arch} dictionary has {sorted(own)}; it belongs to another."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise Corrupt(
                f"{path}: {name} is {list(tensor.shape)}, the configuration beside it says {list(own[name].shape)}."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise Corrupt(f"{path}: {name} holds values that are not finite; the dictionary is unusable.")


def _scale(stored: Any) -> float | list[float]:
    """One number, or one a site."""
    return [float(c) for c in stored] if isinstance(stored, list) else float(stored)


def _nothing_there(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} does not exist; give the folder of a trained dictionary."
    if (folder / "run.json").exists() and not (folder / artefact.CHECKSUMS).exists():
        return f"{folder} is an unfinished run; finish it with --resume."
    below = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}")) if folder.is_dir() else []
    hint = f" It holds dictionaries in {', '.join(below[:6])}{', ...' if len(below) > 6 else ''}." if below else ""
    return f"{folder} is not a dictionary (no {CONFIG} with {artefact.CHECKSUMS}).{hint}"


def verify(path: str | Path) -> dict[str, Any]:
    """Check hashes, then recompute the golden codes and outputs. Returns what was checked; raises Corrupt on a difference."""
    folder = Path(path)
    dictionary = load(folder)
    golden = artefact.read_tensors(folder / GOLDEN)
    x = golden["x"]
    stored = Codes(golden["row"], golden["latent"], golden["value"], (len(x), dictionary.d_sae))
    found = dictionary.encode_sparse(x)
    then, now = stored.dense(), found.dense()
    flipped = (then != 0) != (now != 0)
    scale = float(then.abs().max()) if len(stored) else 1.0
    tiny = (then - now).abs() <= TOLERANCE * scale  # a code that rises continuously from 0 has no threshold to be near
    excused = flipped & (near_threshold(dictionary, x) | tiny)
    if bool((flipped & ~excused).any()):
        n = int((flipped & ~excused).sum())
        raise Corrupt(
            f"{folder}: {n} of {len(stored)} golden codes switched on or off; the weights are not what was saved."
        )
    both = ~flipped
    worst = float(((then - now).abs() * both).max()) / max(scale, 1e-30)
    rows = ~flipped.any(1)
    x_hat = dictionary.reconstruct(x, found)
    drift = float((x_hat - golden["x_hat"])[rows].abs().max()) if bool(rows.any()) else 0.0
    drift /= max(float(golden["x_hat"].abs().max()), 1e-30)
    if worst > TOLERANCE or drift > TOLERANCE:
        raise Corrupt(
            f"{folder}: golden values differ by {max(worst, drift):.1e} of their scale (allowed {TOLERANCE:g})."
        )
    return {
        "path": str(folder),
        "arch": dictionary.arch,
        "rows": len(x),
        "pairs": len(stored),
        "pairs_at_a_threshold": int(excused.sum()),
        "worst_code": worst,
        "worst_output": drift,
    }


def near_threshold(dictionary: Dictionary, x: Tensor) -> Tensor:
    """[n, d_sae]: pairs so near the border of the support that rounding may put them on either side."""
    if x.shape[-1] != dictionary.d_in:
        raise BadInput(f"golden inputs have width {x.shape[-1]}, the dictionary d_in={dictionary.d_in}.")
    if isinstance(dictionary, WholeRows):  # it has no `select`
        return dictionary.undecided(x, TOLERANCE)
    u = dictionary.pre_activations(dictionary.rows_of(x))
    p = dictionary.params_at()
    selection = dictionary.select(p, training=False)
    if isinstance(selection, Above):
        return (u - selection.threshold).abs() <= TOLERANCE * u.abs().maximum(selection.threshold.abs())
    key = keys(u, selection)
    if isinstance(selection, kernels.Top) and selection.scope == "block":
        each = [key[:, b.latents] for b in dictionary.blocks]
        kth = torch.cat([e.topk(min(selection.k, e.shape[1]), dim=1).values[:, -1:].expand_as(e) for e in each], dim=1)
    elif isinstance(selection, kernels.Top):
        kth = key.topk(min(selection.k, key.shape[1]), dim=1).values[:, -1:]
    else:
        kth = key.flatten().topk(min(selection.k * len(key), key.numel())).values[-1]
    return (key - kth).abs() <= TOLERANCE * kth
