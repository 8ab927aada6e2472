"""Choosing inside the fold, and judging once.

An arm is given jobs: rows to train on with their labels, rows to score, folds. Labels of test rows are in no job, so no arm can look at
them. For each of its candidates (C, k, depth, ...) an arm gives the scores of fits that did not see one fold, and of fits that did not
see two (`Job.held_out`). `choose` takes the candidate of the best mean AUC over the folds; the arm scores the test rows with that one alone.

The validation AUC that is reported, and by which arms are chosen among each other, is nested: in each fold it is the AUC of the
candidate that was chosen without that fold, by fits that did not see it. The plain maximum over candidates is above .5 even on noise, the
more so the more candidates an arm has. Choosing by the other folds' AUCs is not enough: the fits behind those have seen this fold, and
where chance lines up two folds with a third, all three look good together (on noise .53 to .54 for PCA of 1 to 100 components).
With two folds nothing would be left to fit, and the other fold's AUC does choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.metrics.auc import auc
from assay.probing.harvest import Harvested

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """One split of one task: y [n_train] belongs to `train`; nothing says the labels of `test`.

    fold [n_train]; n_folds 0: too few rows to hold any out, so candidates cannot be compared. `point` is the regime's parameter.
    """

    seed: int
    train: Ints
    test: Ints
    y: Ints
    fold: Ints
    n_folds: int
    point: float | None = None

    @property
    def held_out(self) -> list[tuple[int, ...]]:
        """The folds that each fit of a candidate does not see: none, each one, and from three folds on each two."""
        pairs = combinations(range(self.n_folds), 2) if self.n_folds > 2 else ()
        return [(), *((f,) for f in range(self.n_folds)), *pairs]

    def without(self, fold: int) -> list[int]:
        """The fits that do not see a fold, the one that holds out nothing else first: places in `held_out`."""
        return [part for part, out in enumerate(self.held_out) if fold in out]

    @property
    def parts(self) -> int:
        """How many fits a candidate needs."""
        return len(self.held_out)

    def masks(self) -> Tensor:
        """[parts, n_train] float32: rows that each fit may see; the first sees all."""
        return torch.from_numpy(np.stack([~np.isin(self.fold, out) for out in self.held_out])).float()


@dataclass(frozen=True)
class Material:
    """What arms may read of a task: texts, pooled vectors, pooled codes, tokens. No labels."""

    name: str
    texts: Sequence[str]
    harvested: Harvested
    pool: str
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def x(self) -> Tensor:
        """The pooled vectors [n, d]."""
        return self.harvested.vectors[self.pool]


@dataclass(frozen=True)
class Choice:
    """index of the candidate; without folds the rest is empty.

    fold_auc [n_folds]: in each fold the AUC of the candidate that was chosen without it; inner_auc [n_folds]: the AUC by which it was.
    """

    index: int
    fold_auc: tuple[float, ...] = ()
    inner_auc: tuple[float, ...] = ()

    @property
    def validation(self) -> float:
        """The nested validation AUC; .5 where nothing could be held out."""
        return float(np.mean(self.fold_auc)) if self.fold_auc else 0.5


@dataclass(frozen=True)
class Scored:
    """What an arm says of one job: its choice, test scores [n_test], and the options that were chosen.

    held [n_train], where the arm gives it: the chosen candidate's score of each training row by the fit that did not see its fold.
    """

    choice: Choice
    test: Tensor
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    held: Tensor | None = None


def choose(inside: Tensor | None, job: Job) -> Choice:
    """The candidate with the best mean AUC over the folds; of equal ones the first.

    inside [parts - 1, candidates, n_train]: scores by the fits that hold out folds; only those of rows held out are looked at.
    None, or no folds: the first candidate.
    """
    if inside is None or not job.n_folds:
        return Choice(0)
    by_part = inside[:, None]
    rows = [torch.from_numpy(np.flatnonzero(job.fold == f)) for f in range(job.n_folds)]
    held = [by_part[[part - 1 for part in job.without(f)]].index_select(3, some) for f, some in enumerate(rows)]
    return choices(held, job)[0]


def choices(held: Sequence[Tensor], job: Job) -> list[Choice]:
    """`choose` for each of several sets of candidates of a job with folds.

    held: for each fold the scores of its rows by the fits that do not see it, in the order of `Job.without` [fits, sets, candidates, rows].
    """
    n = job.n_folds
    by_fold = torch.zeros(*held[0].shape[1:3], n, dtype=torch.float64)  # [sets, candidates, folds]
    inner = torch.zeros_like(by_fold)
    for f, scores in enumerate(held):
        alone, *pairs = auc(scores.float(), torch.from_numpy(job.y[job.fold == f])).unbind()
        by_fold[..., f] = alone
        for part, found in zip(job.without(f)[1:], pairs, strict=True):
            (other,) = set(job.held_out[part]) - {f}
            inner[..., other] += found / (n - 1)
    if n == 2:
        inner = by_fold.flip(2)
    preferred = inner.argmax(1, keepdim=True)
    aucs, chosen_by = (t.gather(1, preferred)[:, 0].tolist() for t in (by_fold, inner))
    best = by_fold.sum(2).argmax(1).tolist()
    return [Choice(i, tuple(auc), tuple(by)) for i, auc, by in zip(best, aucs, chosen_by, strict=True)]


def crossed(several: Sequence[Choice], best: int) -> Choice:
    """The choice among choices: in each fold the AUC of the one that is best without that fold."""
    inner = np.array([choice.inner_auc for choice in several])
    if inner.size == 0:
        return Choice(best)
    preferred = inner.argmax(0)
    aucs = [several[i].fold_auc[f] for f, i in enumerate(preferred)]
    return Choice(best, tuple(aucs), tuple(inner.max(0).tolist()))


def own_fold(scores: Tensor, job: Job) -> Tensor:
    """[candidates, n_train] from scores [n_folds or more, candidates, n_train]: each row by the fit that held its fold out alone."""
    index = torch.from_numpy(job.fold)[None, None].expand(1, *scores.shape[1:])
    return scores.gather(0, index)[0]


def judge(scored: Scored, truth: Ints) -> float:
    """The test AUC of what was chosen."""
    return float(auc(scored.test, torch.from_numpy(truth)))
