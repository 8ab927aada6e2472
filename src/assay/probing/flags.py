"""What is suspicious about a task, from its texts alone: solved by length, by punctuation, or blown up by duplicates.

Length: AUC of the number of characters. Punctuation: nested AUC of a logistic regression on SHAPES, which know no word.
Both are turned so that .5 is chance. Duplicates: the share of rows that repeated another row's text, before they were removed.
"""

from __future__ import annotations

import re

import numpy as np
import torch

from assay.baselines.logistic import fit
from assay.metrics.auc import auc
from assay.probing.data import Task
from assay.probing.splits import folds, rank

SOLVED = 0.9  # AUC from which a task is called solved by what knows no word
MANY_DUPLICATES = 0.15
ROWS, CHARACTERS = 2000, 4000  # of a task and of a text that are looked at
SHAPES = (
    r"[.!?]\s*$",
    r"\s$",
    r"^\s",
    r"[.]",
    r"[,;:]",
    r"[!?]",
    r"[\"'`]",
    r"[()\[\]{}<>]",
    r"\d",
    r"[A-Z]",
    r"\n",
    r"[^\x00-\x7f]",
    r"[_=*/\\#]",
)


def shape(text: str) -> list[float]:
    """How often each of SHAPES is in the text, a character; the first three: 0 or 1."""
    text = text[:CHARACTERS]
    return [len(re.findall(pattern, text)) / (1 if n < 3 else max(len(text), 1)) for n, pattern in enumerate(SHAPES)]


def readings(task: Task) -> dict[str, float]:
    """{"length": AUC, "punctuation": AUC, "duplicates": share} of a task."""
    rows = rank(task.texts, 0, "flags")[:ROWS]
    texts, y = [task.texts[i] for i in rows], task.labels[rows]
    truth = torch.from_numpy(y)
    by_length = float(auc(torch.tensor([float(len(text)) for text in texts]), truth))
    found = {"length": max(by_length, 1 - by_length), "punctuation": 0.5, "duplicates": task.counts.duplicate_frac}
    if np.bincount(y, minlength=2).min() >= 4:
        x = torch.tensor([shape(text) for text in texts], dtype=torch.float64)
        x = (x - x.mean(0)) / x.std(0).clamp_min(1e-9)
        half = torch.from_numpy(folds(y, 2))
        weight = torch.stack([half != 0, half != 1], 1).double()[None]
        scores = fit(x[None], truth[None].double(), weight, torch.full((2,), 0.1).double(), tol=1e-3).scores(x[None])[0]
        parts = [auc(scores[half == f, f], truth[half == f]) for f in (0, 1)]
        found["punctuation"] = float(torch.stack(parts).mean())
    return found


def sentences(found: dict[str, float]) -> tuple[str, ...]:
    """The flags of a task in words; empty where nothing is suspicious."""
    said: list[str] = []
    for name in ("length", "punctuation"):
        if found[name] >= SOLVED:
            said.append(f"solved by {name} alone (AUC {found[name]:.3f})")
    if found["duplicates"] >= MANY_DUPLICATES:
        said.append(f"{found['duplicates']:.0%} of its rows were duplicates")
    return tuple(said)
