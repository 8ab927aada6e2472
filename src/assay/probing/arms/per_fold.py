"""Running an arm that fits one thing at a time: every fold with all candidates, then all rows with the one that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.probing.protocol import Choice, Job, Scored, choose

Fitter = Callable[[Tensor, Tensor, Tensor, Sequence[dict[str, Any]]], Tensor]
"""(rows to fit [n], labels [n], rows to score [m], candidates) -> scores [candidates, m]; rows are indices of the material."""


def run(job: Job, candidates: Sequence[dict[str, Any]], scores: Fitter, default: int = 0) -> Scored:
    """Choose among the candidates by the folds, then fit the choice on all training rows and score the test rows."""
    train, y = torch.from_numpy(job.train), torch.from_numpy(job.y)
    choice, inside = Choice(default, ()), None
    if job.n_folds:
        fold = torch.from_numpy(job.fold)
        validation = torch.zeros(len(candidates), len(y))
        for f in range(job.n_folds):
            seen, held = fold != f, fold == f
            validation[:, held] = scores(train[seen], y[seen], train[held], candidates).float()
        choice = choose(validation, job)
        inside = validation[choice.index]
    index = choice.index if job.n_folds else default
    test = scores(train, y, torch.from_numpy(job.test), [candidates[index]])[0]
    return Scored(choice, test, dict(candidates[index]), inside)
