"""Who is trained on and who is judged: by a seeded hash of the text, so that no order of a file and no copy decides.

Rows are ranked by SHA-256 of (seed, text). The first n_train are trained on, the others judged; a fold is the place of a row
among the training rows of its class, modulo the number of folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import BadInput

Ints = NDArray[np.int64]
FEWEST_TEST = 100
MOST_TRAIN = 1024


@dataclass(frozen=True)
class Split:
    """train [n_train] and test [n_test] rows of a task; fold [n_train], the fold of each training row."""

    seed: int
    train: Ints
    test: Ints
    fold: Ints
    n_folds: int


def rank(texts: Sequence[str], seed: int, use: str = "split") -> Ints:
    """The rows in the order of their seeded hash [n]."""
    keys = [hashlib.sha256(f"{use}\x1f{seed}\x1f{text}".encode("utf-8", "surrogatepass")).digest() for text in texts]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def n_train_of(n: int, most: int = MOST_TRAIN) -> int:
    """min(n - 100, 1024), or half where there are fewer than 200 rows."""
    return min(most, max(n - FEWEST_TEST, n // 2))


def split(texts: Sequence[str], labels: Ints, seed: int, *, n_folds: int = 3, n_train: int | None = None) -> Split:
    """One seed's split. Raises `BadInput` where a class is missing on a side, or has fewer training rows than folds."""
    order = rank(texts, seed)
    size = n_train_of(len(texts)) if n_train is None else n_train
    train, test = order[:size], order[size:]
    for side, rows in (("training", train), ("test", test)):
        if len(np.unique(labels[rows])) < 2:
            raise BadInput(
                f"Of {len(texts)} texts the {len(rows)} {side} rows of seed {seed} are all of one class; give more rows."
            )
    return Split(seed, train, test, folds(labels[train], n_folds), n_folds)


def folds(y: Ints, n_folds: int) -> Ints:
    """The fold of each row [n] of labels in ranked order; classes are spread evenly. Raises `BadInput` for too few rows."""
    fewest = int(np.bincount(y, minlength=2).min())
    if fewest < n_folds:
        raise BadInput(
            f"The rarer class has {fewest} training row{'s' * (fewest != 1)}, fewer than the {n_folds} folds; give more rows or fewer --folds."
        )
    fold = np.zeros(len(y), dtype=np.int64)
    for label in (0, 1):
        mine = np.flatnonzero(y == label)
        fold[mine] = np.arange(len(mine)) % n_folds
    return fold
