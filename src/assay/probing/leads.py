"""What a scan looks with: for each task the logistic probe on all coordinates and the best single latent of each dictionary.

Both are fitted on all rows of the task with what they choose chosen in folds. A latent speaks for the class with whose texts it is larger;
the probe beside it is turned to the same side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.probing.data import Task
from assay.probing.features import Features
from assay.probing.harvest import Harvested, Named
from assay.probing.linear import probe, standardised
from assay.probing.measure import MAX
from assay.probing.protocol import Job, Material
from assay.probing.sparse import probes
from assay.probing.splits import folds


@dataclass(frozen=True)
class Lead:
    """One task, one dictionary: score of lr = sign of the side * (x @ weight); score of the latent = its pooled code, turned by `turn`."""

    task: str
    side: str  # the label that high scores speak for
    dictionary: str
    subject: str
    latent: int
    pool: str
    turn: float
    weight: Tensor  # [d], on the side's side
    vectors: str  # pool of the vectors
    lr_validation: float
    latent_validation: float

    def scores(self, harvested: Harvested) -> Tensor:
        """[2, n]: of the probe, and of the latent."""
        code = harvested.codes[self.dictionary][self.pool].columns(torch.tensor([self.latent]))[:, 0]
        return torch.stack([harvested.vectors[self.vectors] @ self.weight, self.turn * code])


def leads(
    material: Material, task: Task, families: Mapping[str, Features], saes: Sequence[Named], n_folds: int
) -> list[Lead]:
    """One lead a dictionary. families: columns by the name of their arm, as in `Bench.families`."""
    n, y = len(task), task.labels
    rows = np.arange(n)
    job = Job(0, rows, rows[:1], y, folds(y, n_folds), n_folds)
    weight, validation = direction(material.x[:n], job)
    found: list[Lead] = []
    for named in saes:
        arms = {material.pool: named.name, MAX: f"{named.name} {MAX}"} if material.pool != MAX else {MAX: named.name}
        tried = [(probes(families[name], [job], (1,))[1][0], pool) for pool, name in arms.items() if name in families]
        best, pool = max(tried, key=lambda one: one[0].choice.validation)  # of equal ones the first
        latent = int(best.options["columns"][0])
        code = families[arms[pool]].columns(torch.tensor([latent]))[:n, 0].double()
        truth = torch.from_numpy(y).bool()
        turn = 1.0 if float(code[code.abs().argmax()]) >= 0 else -1.0
        one = bool((turn * code[truth]).mean() >= (turn * code[~truth]).mean())
        found.append(
            Lead(
                task.name, task.positive if one else task.negative, named.name, named.subject, latent, pool, turn,
                weight if one else -weight, material.pool, validation, best.choice.validation,
            )
        )  # fmt: skip
    return found


def direction(x: Tensor, job: Job) -> tuple[Tensor, float]:
    """The weight [d] of the logistic probe in the coordinates of x [n, d] themselves, and its validation AUC.

    The probe is asked for its scores of the origin and of a point on each axis, which is all that a linear function is.
    """
    size = x.std(0, correction=0).clamp_min(1e-6)
    points = torch.cat([x, torch.zeros(1, x.shape[1]), torch.diag(size)])
    design = standardised(points, torch.arange(len(x)))
    (scored,) = probe([design], [job])
    return (scored.test[1:] - scored.test[0]).float() / size, scored.choice.validation
