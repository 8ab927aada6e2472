"""Mislabelled rows: found by SAE latents, by the logistic probe's confident errors, and by TF-IDF, side by side.

Suspicion of a row = how strongly a probe that did not see the row's fold speaks against its label. Two uses:

planted   PLANTED of the labels are flipped, and the AUC of suspicion for the flipped rows is each finder's score, over tasks and seeds;
          here the truth is known
as given  the rows that some finder ranks among its first, with every finder's rank, and which of them found it first; whether such a row
          is wrong is for a reader to say

The SAE's finders are its k-sparse probes; a finder that a text model equals has found nothing that is in the model alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.arms import Arm, Metric
from assay.core.intervals import summarise
from assay.core.outcome import Cost, Results, Units
from assay.core.randomness import numpy_rng
from assay.core.verdict import compare
from assay.metrics.auc import auc
from assay.probing.arms import arm
from assay.probing.data import Task
from assay.probing.features import Features
from assay.probing.protocol import Job, Material, Scored
from assay.probing.sparse import probes
from assay.probing.splits import folds, rank

Ints = NDArray[np.int64]
PLANTED = 0.05
FOLDS = 5
ROWS = 800  # of a task that are looked at, drawn by hash
SEEDS = 3
DENSE = ("lr", "tfidf")
KS = (1, 16)
TOP = 3  # rows of each finder that are shown
STUDY = "probe, audit"
ABOUT = (
    "Rows whose label a probe that did not see them speaks against, as the data are given. Rank 1 is a finder's strongest suspicion; "
    "whether the row is wrong is for a reader to say."
)
TEXT = 220  # characters of a row that are shown


@dataclass(frozen=True)
class Found:
    """One task: detection[split][finder] is the AUC for planted flips, one a seed; rows that look mislabelled as given."""

    detection: dict[str, dict[str, list[float]]]
    rows: list[dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        return {"detection": self.detection, "rows": self.rows}


def audit(material: Material, task: Task, saes: dict[str, Features], seeds: Sequence[int]) -> Found:
    """Both uses on one task. saes: columns by the name of their dictionary."""
    rows = np.sort(rank(task.texts, 0, "audit")[:ROWS])
    labels = task.labels[rows]
    detection: dict[str, dict[str, list[float]]] = {"validation": {}, "test": {}}
    if np.bincount(labels, minlength=2).min() < 4 * FOLDS:
        return Found(detection, [])
    jobs: list[Job] = []
    flips: list[Ints] = []
    for seed in seeds:
        for split in detection:
            order = numpy_rng(seed, "probing", "planted", task.name, split).permutation(len(rows))
            y = labels.copy()
            flipped = order[: max(2, round(PLANTED * len(y)))]
            y[flipped] = 1 - y[flipped]
            jobs.append(_job(rows, y, seed))
            flips.append(np.isin(np.arange(len(y)), flipped).astype(np.int64))
    given = _job(rows, labels, seeds[0])
    suspicions: dict[str, torch.Tensor] = {}
    for name, made in _finders(material, [*jobs, given], saes).items():
        for i, (scored, job) in enumerate(zip(made[:-1], jobs, strict=True)):
            split = list(detection)[i % 2]
            value = float(auc(suspicion(scored, job), torch.from_numpy(flips[i])))
            detection[split].setdefault(name, []).append(value)
        suspicions[name] = suspicion(made[-1], given)
    return Found(detection, _rows(task.subset(rows), suspicions))


def _job(rows: Ints, y: Ints, seed: int) -> Job:
    return Job(seed, rows, rows[:1], y, folds(y, FOLDS), FOLDS)


def _finders(material: Material, jobs: Sequence[Job], saes: dict[str, Features]) -> dict[str, list[Scored]]:
    found = {name: arm(name).run(material, jobs) for name in DENSE}
    for name, features in saes.items():
        for k, made in probes(features, jobs, KS).items():
            found[f"{name} k={k}"] = made
    return found


def suspicion(scored: Scored, job: Job) -> torch.Tensor:
    """How strongly the score speaks against the label [n]."""
    assert scored.held is not None
    return (1 - 2 * torch.from_numpy(job.y)) * (scored.held - scored.held.median())


def _rows(task: Task, suspicions: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    order = {name: s.argsort(descending=True).argsort() + 1 for name, s in suspicions.items()}
    chosen = dict.fromkeys(int(i) for s in suspicions.values() for i in s.topk(min(TOP, len(s))).indices)
    rows: list[dict[str, Any]] = []
    for i in chosen:
        mine = {name: int(found[i]) for name, found in order.items()}
        label = task.positive if task.labels[i] else task.negative
        first = min(mine.values())
        finders = [name for name, place in mine.items() if place == first]
        rows.append(
            {
                "task": task.name,
                "text": task.texts[i][:TEXT],
                "label": label,
                "ranks": mine,
                "first": ", ".join(finders),
            }
        )
    return rows


def detection_results(
    found: Sequence[tuple[str, dict[str, Any]]], setting: str, cost: Cost, *, seed: int, resamples: int
) -> Results:
    """Outcomes and verdicts of finding planted flips: SAE finders against the better of lr and tfidf, chosen on other flips."""
    rows = [
        (task, split, finder, i, value)
        for task, held in found
        for split, finders in held["detection"].items()
        for finder, values in finders.items()
        for i, value in enumerate(values)
    ]
    if not rows:
        return Results()
    units = Units.of(
        study=STUDY, task=setting, arm=[r[2] for r in rows], metric="auc", split=[r[1] for r in rows], seed=[r[3] for r in rows],
        unit_kind="task", unit=[r[0] for r in rows], num=[r[4] for r in rows], den=np.ones(len(rows)),
    )  # fmt: skip
    arms = [
        Arm(name=name, role="baseline" if name in DENSE else "method", cost=cost.id, seed=i)
        for name, i in dict.fromkeys((r[2], r[3]) for r in rows)
    ]
    metric = Metric(name="auc", better="higher")
    made = Results(units=units, costs=[cost], outcomes=summarise(units, arms, [metric], seed=seed, resamples=resamples))
    if any(arm.role == "method" for arm in arms):
        judged = compare(units, arms, [metric], [cost], seed=seed, resamples=resamples, nouns=("flips", "finders"))
        made.verdicts, made.notes = judged.verdicts, judged.notes
    return made
