"""The rivals of an SAE's latents, fitted without labels on tokens of the same texts: k-means, NMF, ICA, PCA, random directions.

They are assay's own dictionaries. Linear ones (the coordinates themselves, PCA, ICA) are read off the pooled vectors; the others encode
token by token and are pooled as an SAE is, by the maximum too. A user who gives a dictionary of such an architecture replaces the one made here. What a fit
costs is up-front, counted once and told apart from probing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay import activations, dictionaries
from assay.activations.live import forward
from assay.activations.table import TEXT
from assay.core.artefact import CHECKSUMS, new_folder
from assay.core.provenance import seconds
from assay.core.randomness import torch_rng
from assay.dictionaries import Dictionary
from assay.probing.data import Task
from assay.probing.harvest import BATCH_TEXTS, Named
from assay.probing.splits import rank

LINEAR = ("pca", "ica")
TOKENWISE = ("kmeans", "nmf", "random")
NEURONS = "neurons"
FIT_TOKENS = 24_000  # tokens that the comparators are fitted on, spread over the tasks
ACTIVE = 32  # codes a token keeps
CHUNK = 4096  # rows of the sample that a fit is handed at once


@dataclass(frozen=True)
class Comparator:
    """A fitted rival, and the seconds that its fit took."""

    named: Named
    seconds: float
    linear: bool

    def codes(self, x: Tensor) -> Tensor:
        """All codes [n, d_sae] of a linear one."""
        d = self.named.dictionary
        return (x - d.b_dec.detach()) @ d.W_enc.detach()


def sample(
    model: Any, site: str, tasks: Sequence[Task], context: int | None, seed: int, n_tokens: int = FIT_TOKENS
) -> Tensor:
    """About n_tokens activations of text tokens [n, d], the same number from each task. No label is looked at."""
    share = n_tokens // len(tasks)
    held: list[Tensor] = []
    for task in tasks:
        rows = rank(task.texts, seed, "comparators")
        texts: list[str] = []
        characters = 0
        for i in rows:
            texts.append(task.texts[i][:2000])
            characters += len(texts[-1])
            if characters > 8 * share or len(texts) >= share:
                break
        documents = (activations.Document(activations.document_id(text), text) for text in dict.fromkeys(texts))
        blocks = activations.unpacked(documents, model, context=context, quiet=True)
        n = 0
        for at, got in forward(model, blocks, torch.arange(len(blocks)).numpy(), [site], BATCH_TEXTS):
            x = got[site].float().cpu()[torch.from_numpy(blocks.table.role[at] == TEXT)]
            held.append(x[: share - n])
            n += len(held[-1])
            if n >= share:
                break
    return torch.cat(held)


def options(arch: str, d: int) -> dict[str, Any]:
    """Sizes of the comparators made here; small enough that fitting and encoding are a matter of seconds."""
    return {
        "pca": {"d_in": d, "k": d},
        "ica": {"d_in": d, "d_sae": min(d, 128), "k": min(d, 128), "sample": 8192, "max_iter": 100},
        "kmeans": {"d_in": d, "d_sae": min(8 * d, 512), "codes": "triangle", "k": min(ACTIVE, d), "sample": 2048},
        "nmf": {"d_in": d, "d_sae": min(4 * d, 128), "k": min(ACTIVE, d), "shift": "split", "n_updates": 10},
        "random": {"d_in": d, "d_sae": min(8 * d, 512), "k": min(ACTIVE, d)},
    }[arch]


ROWS_OF = {"nmf": 8192}
"""Rows that a slow fit is given; the others get all."""


def key(model_hash: str, site: str, tasks: Sequence[Task], context: int | None, seed: int) -> str:
    """What the sample of tokens depends on, as 16 hex digits."""
    found = hashlib.sha256(f"1 {model_hash} {site} {context} {seed} {FIT_TOKENS}".encode())
    for task in tasks:
        found.update(f"{task.name} {len(task)} {task.texts[0][:64]}".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]


def fit(arch: str, sampled: Callable[[], Tensor], d: int, seed: int, folder: Path) -> Comparator:
    """One comparator, fitted to tokens [n, d]; read back from `folder` where an earlier run left it."""
    if (folder / arch / CHECKSUMS).is_file():
        made = dictionaries.load(folder / arch)
        spent = float(made.provenance["seconds"])
    else:
        x = sampled()[: ROWS_OF.get(arch)]
        started = seconds()
        made = dictionaries.build(
            dictionaries.config_class(arch)(**options(arch, d)), torch_rng(seed, "probing", arch), x
        )
        if made.learned_by == dictionaries.FIT:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # FastICA stops after max_iter; that is the arm's stated option
                made.fit(x.split(CHUNK), torch_rng(seed, "probing", arch, "fit"))
        spent = seconds() - started
        made.requires_grad_(False)
        if (folder / arch / CHECKSUMS).is_file():  # of another run that shares the cache and was quicker
            return fit(arch, sampled, d, seed, folder)
        with new_folder(folder / arch) as place:
            dictionaries.save(made, place, golden=x, provenance={"seconds": spent, "rows": len(x)})
    subject = f"{arch}-{seed}-{digest(made)}"
    return Comparator(Named(arch, made, subject), spent, arch in LINEAR)


def digest(dictionary: Dictionary) -> str:
    """16 hex digits of the weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(dictionary.state_dict().items()):
        found.update(name.encode() + tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
