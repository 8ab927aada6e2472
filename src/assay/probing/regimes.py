"""The regimes: which rows are trained on, with which labels, and which are judged. A regime is a list of jobs a task and seed.

standard    min(n - 100, 1024) training rows, the rest judged
scarcity    20 sizes from 2 to 1024, the classes as even as the size allows; the same test rows at every size
imbalance   19 shares of class 1 from .05 to .95, the same in training and test rows
noise       11 shares of flipped training labels from 0 to .5; folds see the flipped labels too, test labels are clean
shift       trained as in standard, judged on the task's own shifted texts; validation is not shifted
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from assay.core.randomness import numpy_rng
from assay.probing.data import Task
from assay.probing.protocol import Job
from assay.probing.splits import folds, split

Ints = NDArray[np.int64]
SIZES = (2, 3, 4, 5, 7, 10, 14, 20, 28, 38, 53, 74, 103, 143, 198, 275, 382, 531, 737, 1024)
SHARES = tuple(round(0.05 * i, 2) for i in range(1, 20))
FLIPS = tuple(round(0.05 * i, 2) for i in range(11))
FEWEST_IMBALANCED = 3  # rows of the rarer class, for one in each of three folds
POINT_NAME = {"scarcity": "rows", "imbalance": "share of class 1", "noise": "labels flipped"}


def standard(task: Task, seed: int, n_folds: int) -> list[Job]:
    s = split(task.texts, task.labels, seed, n_folds=n_folds)
    return [Job(seed, s.train, s.test, task.labels[s.train], s.fold, n_folds)]


def scarcity(task: Task, seed: int, n_folds: int) -> list[Job]:
    base = standard(task, seed, n_folds)[0]
    ones, zeros = (base.train[base.y == label] for label in (1, 0))
    made: list[Job] = []
    for size in SIZES:
        n1 = size - size // 2 if seed % 2 else size // 2
        if n1 <= len(ones) and size - n1 <= len(zeros) and n1 and size > n1:
            made.append(_job(base, np.concatenate([ones[:n1], zeros[: size - n1]]), task, n_folds, float(size)))
    return made


def imbalance(task: Task, seed: int, n_folds: int) -> list[Job]:
    base = standard(task, seed, n_folds)[0]
    made: list[Job] = []
    for share in SHARES:
        train, test = (_at_share(rows, task.labels, share) for rows in (base.train, base.test))
        fewest = min(int(task.labels[rows].sum()) for rows in (train, test))
        rest = min(int((1 - task.labels[rows]).sum()) for rows in (train, test))
        if min(fewest, rest) >= FEWEST_IMBALANCED:
            made.append(replace(_job(base, train, task, n_folds, share), test=test))
    return made


def noise(task: Task, seed: int, n_folds: int) -> list[Job]:
    base = standard(task, seed, n_folds)[0]
    order = numpy_rng(seed, "probing", "noise", task.name).permutation(len(base.y))
    made: list[Job] = []
    for share in FLIPS:
        y = base.y.copy()
        flipped = order[: round(share * len(y))]
        y[flipped] = 1 - y[flipped]
        if min(np.bincount(y, minlength=2)) >= n_folds:
            made.append(replace(base, y=y, fold=folds(y, n_folds), point=share))
    return made


def shift(task: Task, seed: int, n_folds: int) -> list[Job]:
    if task.shift is None:
        return []
    base = standard(task, seed, n_folds)[0]
    known = set(task.texts)
    fresh = np.array([i for i, text in enumerate(task.shift.texts) if text not in known], dtype=np.int64)
    shifted = base.test if task.paired else fresh  # a shifted text that is also a plain one would be a leak
    return [replace(base, test=len(task) + shifted)]


def _job(base: Job, train: Ints, task: Task, n_folds: int, point: float) -> Job:
    """A job of fewer rows; as many folds as each class can fill, none where one row of a class is all there is."""
    y = task.labels[train]
    n = min(n_folds, int(np.bincount(y, minlength=2).min()))
    n = n if n > 1 else 0
    return Job(base.seed, train, base.test, y, folds(y, n) if n else np.zeros(len(y), np.int64), n, point)


def _at_share(rows: Ints, labels: Ints, share: float) -> Ints:
    """The first rows of each class, so many that class 1 has the share; the scarcer class decides the size."""
    ones, zeros = rows[labels[rows] == 1], rows[labels[rows] == 0]
    n = min(len(ones) / share, len(zeros) / (1 - share))
    kept = np.concatenate([ones[: round(n * share)], zeros[: round(n * (1 - share))]])
    return rows[np.isin(rows, kept)]


REGIMES: dict[str, Callable[[Task, int, int], list[Job]]] = {
    "standard": standard,
    "scarcity": scarcity,
    "imbalance": imbalance,
    "noise": noise,
    "shift": shift,
}
NAMES = tuple(REGIMES)
