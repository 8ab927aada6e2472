"""Logistic regression on vectors that are pooled over a text's tokens in one way, whatever the probed vectors are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from assay.probing.linear import probe, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored


def missing_where(pool: str) -> Callable[[Material], str | None]:
    """An arm's `missing`: the probed vectors are pooled so already."""

    def missing(material: Material) -> str | None:
        return f"the probed vectors are pooled by {pool} already, so this is lr" if material.pool == pool else None

    return missing


def run_on(pool: str) -> Callable[[Material, Sequence[Job]], list[Scored]]:
    """An arm's `run`."""

    def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
        x = material.harvested.vectors[pool]
        return probe([standardised(x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs], jobs)

    return run
