"""Running an arm that fits one thing at a time: every fold with all candidates, then all rows with the one that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.probing.protocol import Choice, Job, Scored, choose, own_fold

Fitter = Callable[[Tensor, Tensor, Tensor, Sequence[dict[str, Any]]], Tensor]
"""(rows to fit [n], labels [n], rows to score [m], candidates) -> scores [candidates, m]; rows are indices of the material."""


def run(job: Job, candidates: Sequence[dict[str, Any]], scores: Fitter, default: int = 0) -> Scored:
    """Choose among the candidates by the folds, then fit the choice on all training rows and score the test rows."""
    train, y = torch.from_numpy(job.train), torch.from_numpy(job.y)
    choice, held = Choice(default), None
    if job.n_folds:
        inside = torch.zeros(job.parts - 1, len(candidates), len(y))
        for part, seen in enumerate(job.masks()[1:] > 0):
            inside[part][:, ~seen] = scores(train[seen], y[seen], train[~seen], candidates).float()
        choice = choose(inside, job)
        held = own_fold(inside, job)[choice.index]
    test = scores(train, y, torch.from_numpy(job.test), [candidates[choice.index]])[0]
    return Scored(choice, test, dict(candidates[choice.index]), held)
