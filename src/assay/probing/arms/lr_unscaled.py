"""L2 logistic regression on the coordinates as they are: centred, and over one number for all of them, so that one grid of C suits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from assay.probing.linear import probe, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored

ABOUT = "logistic regression, one scale for all coordinates"
ROLE, ACCESS, SLOW = "baseline", "activations", False
C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    designs = [standardised(material.x, torch.from_numpy(job.train), one_scale=True)[rows_of(job)] for job in jobs]
    return probe(designs, jobs, C_GRID)
