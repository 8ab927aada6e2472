"""The attention-pooled probe: it learns which tokens of a text to look at. Starts as logistic regression on the mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.baselines import attention
from assay.baselines.logistic import fit
from assay.core.randomness import torch_rng
from assay.probing.linear import TALLY, TOL
from assay.probing.protocol import Job, Material, Scored, choose

ABOUT = "softmax over tokens of x·q, times x·v, both learned; started from logistic regression on the mean"
ROLE, ACCESS, SLOW = "baseline", "activations", True
C_START = (1e-3, 1e-2)
RATES = (0.0, 3e-3, 1e-2)  # 0 keeps the start
DECAY, EPOCHS, BATCH = 0.1, 6, 128


def missing(material: Material) -> str | None:
    return None if material.harvested.tokens is not None else "single tokens were not kept"


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    return [_one(material, job) for job in jobs]


def _one(material: Material, job: Job) -> Scored:
    assert material.harvested.tokens is not None
    x, pointer = material.harvested.tokens
    mean = material.harvested.vectors["mean"]
    rows = torch.from_numpy(job.train)
    centre, spread = mean[rows].mean(0), mean[rows].std(0, correction=0).clamp_min(1e-6)
    scaled = ((x.float() - centre) / spread).half()
    pooled = ((mean - centre) / spread)[rows]
    y, masks = torch.from_numpy(job.y).float(), job.masks()
    grid = [(c, rate) for c in C_START for rate in RATES]
    columns = masks.repeat_interleave(len(grid), 0).t().contiguous()  # [n, parts * grid], part by part
    strengths = torch.tensor([c for c, _ in grid]).repeat(job.parts)
    start = fit(pooled[None], y[None], columns[None], strengths, tol=TOL)
    TALLY.add(start)
    begun = attention.Pooled(torch.zeros_like(start.coef[0]), start.coef[0], start.intercept[0])
    rates = torch.tensor([rate for _, rate in grid]).repeat(job.parts)
    probe = attention.train(
        begun, scaled, pointer, rows, y, columns, rates, torch.full_like(rates, DECAY), epochs=EPOCHS, batch=BATCH,
        rng=torch_rng(job.seed, "probing", "attention"),
    )  # fmt: skip

    def scores(held: Tensor) -> Tensor:
        parts = [probe.scores(*attention.gathered(scaled, pointer, some), len(some))[0] for some in held.split(BATCH)]
        return torch.cat(parts).t().unflatten(0, (job.parts, len(grid)))  # [parts, grid, rows]

    choice = choose(scores(rows)[1:] if job.n_folds else None, job)
    return Scored(
        choice,
        scores(torch.from_numpy(job.test))[0, choice.index],
        {"C": grid[choice.index][0], "lr": grid[choice.index][1]},
    )
