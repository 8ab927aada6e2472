"""Metrics of a whole dictionary, one number each: the unit is a seed, and a verdict needs five."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from assay.core.arms import Arm
from assay.core.intervals import summarise
from assay.core.outcome import Metric, Units
from assay.core.verdict import compare
from assay.evaluation import Entry, Evaluation, checks, tables
from assay.studies.options import Options


def add_by_seed(
    found: Evaluation, entries: Sequence[Entry], values: Mapping[Metric, Sequence[float]], options: Options
) -> None:
    """Add units, outcomes and verdicts of metrics given as one value an entry. They are stated alike for both splits."""
    points = {
        o.subject: o.point
        for o in found.outcomes
        if o.metric == "l0" and o.split == "validation" and o.seed is not None
    }
    arms: list[Arm] = []
    units: list[Units] = []
    for i, entry in enumerate(entries):
        subject = checks.subject_of(entry)
        point = points[subject]
        arms.append(tables.standing(entry, subject, point, tables.recorded_cost(entry, subject)))
        for metric, numbers in values.items():
            for split in ("validation", "test"):
                units.append(
                    Units.of(
                        study=found.run["study"], task=found.run["task"], arm=entry.arm, metric=metric.name, split=split,
                        seed=entry.seed, point=point, subject=subject, unit_kind="seed", unit=[f"seed {entry.seed}"],
                        num=[numbers[i]], den=[1.0],
                    )
                )  # fmt: skip
    table, metrics = Units.concat(units), list(values)
    judged = compare(table, arms, metrics, found.costs, seed=options.seed, resamples=options.resamples)
    found.units = Units.concat([found.units, table])
    found.outcomes += summarise(table, arms, metrics, seed=options.seed, resamples=options.resamples)
    found.verdicts += judged.verdicts
    found.notes += judged.notes


def frequencies(found: Evaluation, entry: Entry) -> Tensor:
    """Share of the test documents' tokens on which each latent fires: [d_sae] float64."""
    subject = checks.subject_of(entry)
    columns = found.histogram.to_pydict()
    rows = zip(columns["arm"], columns["subject"], columns["latent"], columns["frequency"], strict=True)
    mine = sorted((latent, f) for arm, name, latent, f in rows if (arm, name) == (entry.arm, subject))
    return torch.tensor([f for _, f in mine], dtype=torch.float64)
