"""The number of characters of a text, in the direction that its training rows say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.probing.arms import per_fold
from assay.probing.protocol import Job, Material, Scored

ABOUT = "how long the text is"
ROLE, ACCESS, SLOW = "baseline", "text", False


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    size = torch.tensor([float(len(text)) for text in material.texts])

    def scores(rows: Tensor, y: Tensor, held: Tensor, candidates: Sequence[dict[str, Any]]) -> Tensor:
        longer = size[rows][y == 1].mean() >= size[rows][y == 0].mean()
        return (size[held] if longer else -size[held])[None]

    return [per_fold.run(job, [{}], scores) for job in jobs]
