"""Gradient-boosted trees, with rate, depth, number and regularisation drawn at random and chosen by the folds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.randomness import numpy_rng
from assay.probing.arms import per_fold
from assay.probing.protocol import Job, Material, Scored

ABOUT = "gradient-boosted trees on the leading principal components, tuned over random draws"
ROLE, ACCESS, SLOW = "baseline", "activations", True
DRAWS = 4
COMPONENTS = 32  # trees split on single columns; the leading components say more a column, and cost less


def candidates(seed: int) -> list[dict[str, Any]]:
    """The first is a sound default; the others are drawn."""
    rng = numpy_rng(seed, "probing", "boosting")
    found: list[dict[str, Any]] = [{"max_iter": 100, "learning_rate": 0.1, "max_depth": 3, "l2": 1.0, "least": 10}]
    for _ in range(DRAWS - 1):
        found.append(
            {
                "max_iter": int(rng.integers(1, 4) * 50),
                "learning_rate": float(10 ** rng.uniform(-2, -0.7)),
                "max_depth": int(rng.integers(1, 6)),
                "l2": float(10 ** rng.uniform(-2, 1)),
                "least": int(rng.integers(3, 30)),
            }
        )
    return found


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    return [_one(material.x, job) for job in jobs]


def _one(x: Tensor, job: Job) -> Scored:
    ensemble: Any = import_module("sklearn.ensemble")
    seen = x[torch.from_numpy(job.train)]
    mean = seen.mean(0)
    basis = torch.linalg.eigh((seen - mean).t() @ (seen - mean))[1].flip(1)[:, :COMPONENTS]
    columns = ((x - mean) @ basis).numpy()

    def scores(rows: Tensor, y: Tensor, held: Tensor, drawn: Sequence[dict[str, Any]]) -> Tensor:
        found: list[Any] = []
        for c in drawn:
            made = ensemble.HistGradientBoostingClassifier(
                max_iter=c["max_iter"], learning_rate=c["learning_rate"], max_depth=c["max_depth"],
                l2_regularization=c["l2"], min_samples_leaf=min(c["least"], max(len(rows) // 4, 1)), max_bins=63,
                early_stopping=False, random_state=job.seed,
            ).fit(columns[rows.numpy()], y.numpy())  # fmt: skip
            found.append(made.decision_function(columns[held.numpy()]))
        return torch.from_numpy(np.stack(found))

    return per_fold.run(job, candidates(job.seed), scores)
