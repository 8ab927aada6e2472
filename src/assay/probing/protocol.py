"""Choosing inside the fold, and judging once.

An arm is given jobs: rows to train on with their labels, rows to score, folds. Labels of test rows are in no job, so no arm can look at
them. It returns, for each of its candidates (C, k, depth, ...), the score of every training row by the fit that did not see that row's
fold. `choose` takes the candidate of the best mean AUC over the folds; the arm scores the test rows with that one alone.

The validation AUC that is reported, and by which arms are chosen among each other, is cross-fitted: in each fold it is the AUC of the
candidate that the *other* folds choose. The plain maximum over candidates is above .5 even on noise, the more so the more candidates an
arm has, and would favour arms with large grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    def parts(self) -> int:
        """How many fits a candidate needs: one on all training rows and one without each fold."""
        return self.n_folds + 1

    def masks(self) -> Tensor:
        """[parts, n_train] float32: rows that each fit may see; the first sees all."""
        return torch.from_numpy(
            np.stack([np.ones(len(self.y)), *(self.fold != f for f in range(self.n_folds))])
        ).float()


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
    """index of the candidate; fold_auc [n_folds] cross-fitted (empty without folds)."""

    index: int
    fold_auc: tuple[float, ...]

    @property
    def validation(self) -> float:
        """The cross-fitted validation AUC; .5 where nothing could be held out."""
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


def choose(validation: Tensor | None, job: Job) -> Choice:
    """The candidate with the best mean AUC over the folds; of equal ones the first. validation [candidates, n_train].

    None, or no folds: the first candidate.
    """
    if validation is None or not job.n_folds:
        return Choice(0, ())
    y, fold = torch.from_numpy(job.y), torch.from_numpy(job.fold)
    by_fold = torch.stack([auc(validation[:, fold == f], y[fold == f]) for f in range(job.n_folds)], 1)
    total = by_fold.sum(1, keepdim=True)
    others = total - by_fold if job.n_folds > 1 else by_fold
    crossed = by_fold.gather(0, others.argmax(0, keepdim=True))[0]
    return Choice(int(total[:, 0].argmax()), tuple(crossed.tolist()))


def own_fold(scores: Tensor, job: Job) -> Tensor:
    """[candidates, n_train] from scores [n_folds, candidates, n_train]: each row by the fit that held its fold out."""
    index = torch.from_numpy(job.fold)[None, None].expand(1, *scores.shape[1:])
    return scores.gather(0, index)[0]


def judge(scored: Scored, truth: Ints) -> float:
    """The test AUC of what was chosen."""
    return float(auc(scored.test, torch.from_numpy(truth)))
