"""Logistic probes on dense columns, for many jobs at once: folds and strengths of penalty share one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.baselines.logistic import Fit, fit
from assay.probing.protocol import Job, Scored, choose, own_fold

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths for standardised columns, the strongest penalty first, so that ties go to the simpler probe."""
TOL = 2e-3  # of the spread of a fit's scores may be left; AUCs are within 1e-3 of those of exact fits
AT_ONCE = 2**26  # numbers of x held in one batch of problems


@dataclass
class Tally:
    """How many fits were made, and how many of them did not converge."""

    fits: int = 0
    open: int = 0

    def add(self, found: Fit) -> None:
        self.fits += found.converged.numel()
        self.open += int((~found.converged).sum())


TALLY = Tally()


def standardised(x: Tensor, rows: Tensor, *, one_scale: bool = False) -> Tensor:
    """x [n, d] less its mean over `rows`, over its standard deviation there: one a column, or one for all columns."""
    seen = x.index_select(0, rows)
    mean = seen.mean(0)
    spread = seen.sub_(mean).square_().mean(0)
    spread = spread.mean() if one_scale else spread
    return (x - mean) / spread.sqrt().clamp_min(1e-6)


def probe(designs: Sequence[Tensor], jobs: Sequence[Job], c_grid: Sequence[float] = C_GRID) -> list[Scored]:
    """One logistic probe a job with its C chosen inside the folds.

    designs: for each job the columns of its training rows and then of its test rows [n_train + n_test, d]. Jobs of one shape are
    solved together.
    """
    groups: dict[tuple[int, int, int], list[int]] = {}
    for i, (x, job) in enumerate(zip(designs, jobs, strict=True)):
        groups.setdefault((len(job.train), x.shape[1], job.n_folds), []).append(i)
    found: list[Scored | None] = [None] * len(jobs)
    for (n, d, _), members in groups.items():
        size = max(1, AT_ONCE // (n * max(d, 1)))
        for first in range(0, len(members), size):
            some = members[first : first + size]
            for i, scored in zip(
                some, _together([designs[i] for i in some], [jobs[i] for i in some], c_grid), strict=True
            ):
                found[i] = scored
    return [scored for scored in found if scored is not None]


def _together(designs: Sequence[Tensor], jobs: Sequence[Job], c_grid: Sequence[float]) -> list[Scored]:
    n = len(jobs[0].train)
    x = torch.stack([design[:n] for design in designs])
    y = torch.from_numpy(np.stack([job.y for job in jobs])).to(x.dtype)
    weight = torch.stack([job.masks() for job in jobs]).to(x.dtype)  # [jobs, parts, n]
    columns = weight.repeat_interleave(len(c_grid), 1).transpose(1, 2).contiguous()
    solved = fit(x, y, columns, torch.tensor(c_grid).repeat(jobs[0].parts).to(x.dtype), tol=TOL)
    TALLY.add(solved)
    inside = solved.scores(x).transpose(1, 2).unflatten(1, (jobs[0].parts, len(c_grid)))  # [jobs, parts, C, n]
    made: list[Scored] = []
    for i, job in enumerate(jobs):
        held = own_fold(inside[i, 1:], job) if job.n_folds else None
        choice = choose(inside[i, 1:], job)
        at = choice.index if job.n_folds else len(c_grid) // 2
        test = designs[i][n:] @ solved.coef[i, :, at] + solved.intercept[i, at]
        made.append(Scored(choice, test, {"C": c_grid[at]}, None if held is None else held[at]))
    return made


def rows_of(job: Job) -> Tensor:
    """Training rows, then test rows."""
    return torch.from_numpy(np.concatenate([job.train, job.test]))
