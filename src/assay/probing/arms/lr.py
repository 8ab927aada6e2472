"""L2 logistic regression on all coordinates, each standardised on the training rows; C by the folds. The probe to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from assay.probing.linear import probe, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored

ABOUT = "logistic regression, every coordinate standardised"
ROLE, ACCESS, SLOW = "baseline", "activations", False


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    designs = [standardised(material.x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs]
    return probe(designs, jobs)
