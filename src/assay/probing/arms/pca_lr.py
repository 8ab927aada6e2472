"""Principal components of the training rows, then logistic regression on the first few; how many is chosen by the folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from assay.baselines.logistic import fit
from assay.probing.linear import TALLY, TOL, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored, choose

ABOUT = "PCA, then logistic regression on the leading components"
ROLE, ACCESS, SLOW = "baseline", "activations", False
MOST, STEPS, C = 100, 7, 1.0


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    return [_one(standardised(material.x, torch.from_numpy(job.train))[rows_of(job)], job) for job in jobs]


def sizes(n: int, d: int) -> list[int]:
    """Numbers of components, evenly spaced in their logarithm from 1 to min(100, n, d)."""
    return sorted({round(s) for s in np.geomspace(1, max(1, min(MOST, n - 1, d)), STEPS)})


def _one(x: Tensor, job: Job) -> Scored:
    n = len(job.train)
    candidates = sizes(n, x.shape[1])
    basis = torch.linalg.eigh(x[:n].t() @ x[:n])[1].flip(1)  # the largest variance first
    z = x @ basis[:, : candidates[-1]]
    z = z / z[:n].std(0, correction=0).clamp_min(1e-6)
    y, weight = torch.from_numpy(job.y).float()[None], job.masks().t()[None].contiguous()
    inside, test = [], []
    for size in candidates:
        solved = fit(z[None, :n, :size], y, weight, torch.full((job.parts,), C), tol=TOL)
        TALLY.add(solved)
        inside.append(solved.scores(z[None, :n, :size])[0].t())
        test.append(z[n:, :size] @ solved.coef[0, :, 0] + solved.intercept[0, 0])
    choice = choose(torch.stack(inside, 1)[1:], job)
    at = choice.index if job.n_folds else len(candidates) // 2
    return Scored(choice, test[at], {"components": candidates[at]})
