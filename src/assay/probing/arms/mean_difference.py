"""The direction from the mean of one class to the mean of the other; nothing is fitted beyond two means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from assay.probing.arms import per_fold
from assay.probing.protocol import Job, Material, Scored

ABOUT = "x · (mean of class 1 − mean of class 0)"
ROLE, ACCESS, SLOW = "baseline", "activations", False


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    x = material.x

    def scores(rows: Tensor, y: Tensor, held: Tensor, candidates: Sequence[dict[str, Any]]) -> Tensor:
        direction = x[rows][y == 1].mean(0) - x[rows][y == 0].mean(0)
        return (x[held] @ direction)[None]

    return [per_fold.run(job, [{}], scores) for job in jobs]
