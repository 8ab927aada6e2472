"""k nearest neighbours in standardised coordinates; the score is the share of class 1 among them, k by the folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.probing.arms import per_fold
from assay.probing.linear import standardised
from assay.probing.protocol import Job, Material, Scored

ABOUT = "share of class 1 among the k nearest training rows"
ROLE, ACCESS, SLOW = "baseline", "activations", False
K_GRID = (64, 32, 16, 8, 4, 2, 1)  # the smoothest first: ties go to it


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    return [_one(standardised(material.x, torch.from_numpy(job.train)), job) for job in jobs]


def _one(x: Tensor, job: Job) -> Scored:
    size = x.square().sum(1)

    def scores(rows: Tensor, y: Tensor, held: Tensor, candidates: Sequence[dict[str, Any]]) -> Tensor:
        far = size[rows] - 2 * x[held] @ x[rows].t()
        most = min(max(c["k"] for c in candidates), len(rows))
        near = far.topk(most, dim=1, largest=False).indices
        ones = y[near].float().cumsum(1)
        return torch.stack([ones[:, min(c["k"], most) - 1] / min(c["k"], most) for c in candidates])

    return per_fold.run(job, [{"k": k} for k in K_GRID], scores, default=3)
