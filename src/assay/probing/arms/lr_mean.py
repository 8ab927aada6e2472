"""Logistic regression on the coordinates' mean over the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from assay.probing.linear import probe, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored

ABOUT = "logistic regression on the mean over tokens"
ROLE, ACCESS, SLOW = "baseline", "activations", False
POOL = "mean"


def missing(material: Material) -> str | None:
    return f"the probed vectors are the {POOL} over tokens already, so this is lr" if material.pool == POOL else None


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    x = material.harvested.vectors[POOL]
    return probe([standardised(x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs], jobs)
