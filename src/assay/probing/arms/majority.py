"""The floor: the same score for every text, as one who always names the larger class. AUC .5 by definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from assay.probing.protocol import Choice, Job, Material, Scored

ABOUT = "always the larger class"
ROLE, ACCESS, SLOW = "floor", "text", False


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    return [Scored(Choice(0, (0.5,) * job.n_folds, (0.5,) * job.n_folds), torch.zeros(len(job.test))) for job in jobs]
