"""A network of one hidden layer; width, learning rate, decay and drop-out drawn at random, chosen by the folds, stopped early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.baselines.mlp import Plan, fit_scores
from assay.core.randomness import numpy_rng, torch_rng
from assay.probing.linear import standardised
from assay.probing.protocol import Job, Material, Scored, choose

ABOUT = "one hidden layer on the leading principal components, tuned over random draws, stopped early"
ROLE, ACCESS, SLOW = "baseline", "activations", True
DRAWS, EPOCHS = 6, 20
WIDTHS = (16, 32)
COMPONENTS = (
    128  # leading principal components of the training rows that it reads: a third of the cost on a small encoder
)


def candidates(seed: int) -> list[dict[str, Any]]:
    """The first is a sound default; the others are drawn."""
    rng = numpy_rng(seed, "probing", "mlp")
    found: list[dict[str, Any]] = [{"width": 32, "lr": 1e-3, "decay": 0.1, "drop": 0.2}]
    for _ in range(DRAWS - 1):
        found.append(
            {
                "width": int(rng.choice(WIDTHS)),
                "lr": float(10 ** rng.uniform(-3.5, -2)),
                "decay": float(10 ** rng.uniform(-3, 0.5)),
                "drop": float(rng.choice([0.0, 0.2, 0.5])),
            }
        )
    return found


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    return [_one(leading(material.x, torch.from_numpy(job.train)), job) for job in jobs]


def leading(x: Tensor, rows: Tensor) -> Tensor:
    """The leading principal components of standardised x [n, COMPONENTS], their mean square 1."""
    z = standardised(x, rows)
    basis = torch.linalg.eigh(z[rows].t() @ z[rows])[1].flip(1)[:, :COMPONENTS]
    columns = z @ basis
    return columns / columns[rows].square().mean().sqrt().clamp_min(1e-6)


def _one(x: Tensor, job: Job) -> Scored:
    drawn, rows = candidates(job.seed), torch.from_numpy(job.train)
    train, y = x[rows], torch.from_numpy(job.y).float()
    rng = torch_rng(job.seed, "probing", "mlp", len(job.y))
    index, choice = 0, choose(None, job)
    if job.n_folds:
        masks = job.masks()[1:]
        weight = masks.repeat(len(drawn), 1)  # candidate by candidate, its fits one after the other
        plans = plan([c for c in drawn for _ in masks])
        scores = fit_scores(train, y, weight, train, plans, EPOCHS, rng).unflatten(0, (len(drawn), len(masks)))
        choice = choose(scores.transpose(0, 1), job)
        index = choice.index
    test = fit_scores(
        train, y, torch.ones(1, len(y)), x[torch.from_numpy(job.test)], plan([drawn[index]]), EPOCHS, rng
    )[0]
    return Scored(choice, test, drawn[index])


def plan(drawn: Sequence[dict[str, Any]]) -> Plan:
    columns = {name: torch.tensor([c[name] for c in drawn]) for name in ("width", "lr", "decay", "drop")}
    return Plan(columns["width"], columns["lr"].float(), columns["decay"].float(), columns["drop"].float())
