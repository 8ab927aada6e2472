"""k-sparse probes: the k columns that differ most between the classes, and a logistic regression on them.

One selector for every kind of column: |mean of class 1 - mean of class 0| / pooled standard deviation, on the rows that the fit may see
and on no others. Columns are chosen anew for each fold. k columns are the first k of the largest k, so one selection serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.baselines.logistic import fit
from assay.probing.features import Features
from assay.probing.linear import C_GRID, TALLY, TOL
from assay.probing.protocol import Choice, Job, Scored, choose, own_fold

K_GRID = (1, 2, 5, 16, 128)
QUIET = 1e-12  # columns of less variance than this share of the largest say nothing
SHOWN = 16  # columns that are written down
PROBLEMS_AT_ONCE = 2**21  # numbers of x held in one batch of problems


@dataclass(frozen=True)
class Selected:
    """For each fit the best columns [parts, k], with their mean and standard deviation on the rows it saw."""

    columns: Tensor
    mean: Tensor
    spread: Tensor


@torch.no_grad()
def select(features: Features, job: Job, k: int) -> Selected:
    """The k best columns for each part of a job, on that part's own rows. Everything here looks at labels."""
    masks = job.masks()
    y = torch.from_numpy(job.y).float()
    first, second = features.sums(job.train, torch.cat([masks, masks * y]))
    n, n1 = masks.sum(1)[:, None], (masks * y).sum(1)[:, None]
    parts = len(masks)
    total, ones = first[:parts].double(), first[parts:].double()
    squares = second[:parts].double()
    mean = total / n
    mean1, mean0 = ones / n1, (total - ones) / (n - n1)
    whole = (squares / n - mean.square()).clamp_min(0)
    between = n1 * (n - n1) / n**2 * (mean1 - mean0).square()
    within = (whole - between).clamp_min(0)
    alive = whole > QUIET * whole.amax(1, keepdim=True)
    score = torch.where(alive, (mean1 - mean0).abs() / (within + 1e-6 * whole).sqrt().clamp_min(1e-30), -1.0)
    columns = score.topk(min(k, score.shape[1]), dim=1).indices
    spread = whole.gather(1, columns).sqrt().clamp_min(1e-6 * float(whole.amax().sqrt()) + 1e-30)
    return Selected(columns, mean.gather(1, columns).float(), spread.float())


def probes(features: Features, jobs: Sequence[Job], ks: Sequence[int] = K_GRID) -> dict[int, list[Scored]]:
    """For each k one probe a job, with its columns and its C chosen inside the folds. A k above the columns is left out."""
    widest = min(max(ks), features.shape[1])
    found: dict[int, list[Scored]] = {k: [] for k in ks if k <= features.shape[1]}
    for group in _alike(jobs, widest):
        for k, scored in _together(features, group, sorted(found), widest).items():
            found[k] += scored
    order = {id(job): i for i, job in enumerate(jobs)}
    ran = [order[id(job)] for group in _alike(jobs, widest) for job in group]
    return {k: [scored[ran.index(i)] for i in range(len(jobs))] for k, scored in found.items()}


def _alike(jobs: Sequence[Job], widest: int) -> list[list[Job]]:
    """Jobs of one shape, as many together as memory is meant to hold."""
    shapes: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        shapes.setdefault((len(job.train), job.n_folds), []).append(job)
    groups: list[list[Job]] = []
    for (n, n_folds), same in shapes.items():
        size = max(1, PROBLEMS_AT_ONCE // ((n_folds + 1) * n * widest))
        groups += [same[i : i + size] for i in range(0, len(same), size)]
    return groups


def _together(features: Features, jobs: Sequence[Job], ks: Sequence[int], widest: int) -> dict[int, list[Scored]]:
    chosen = [select(features, job, widest) for job in jobs]
    needed, place = torch.unique(torch.stack([c.columns for c in chosen]), return_inverse=True)
    table = features.columns(needed)  # [n, columns that some fit chose]
    parts = jobs[0].parts
    trained = [table[torch.from_numpy(job.train)] for job in jobs]
    x = torch.stack([rows[:, place[i, part]] for i, rows in enumerate(trained) for part in range(parts)])
    x.sub_(torch.cat([c.mean for c in chosen])[:, None]).div_(torch.cat([c.spread for c in chosen])[:, None])
    y = torch.from_numpy(np.stack([job.y for job in jobs])).float().repeat_interleave(parts, 0)
    masks = torch.cat([job.masks() for job in jobs])
    weight = masks[:, :, None].expand(-1, -1, len(C_GRID)).contiguous()
    strengths = torch.tensor(C_GRID)
    found: dict[int, list[Scored]] = {}
    for k in ks:
        mine = x[..., :k].contiguous()
        solved = fit(mine, y, weight, strengths, tol=TOL)
        TALLY.add(solved)
        inside = solved.scores(mine).transpose(1, 2).unflatten(0, (len(jobs), parts))  # [jobs, parts, C, n]
        found[k] = []
        for i, (job, c) in enumerate(zip(jobs, chosen, strict=True)):
            held = own_fold(inside[i, 1:], job) if job.n_folds else None
            choice = choose(held, job)
            at = choice.index if job.n_folds else len(C_GRID) // 2
            test = (table[torch.from_numpy(job.test)][:, place[i, 0, :k]] - c.mean[0, :k]) / c.spread[0, :k]
            scores = test @ solved.coef[i * parts, :, at] + solved.intercept[i * parts, at]
            options = {"k": k, "C": C_GRID[at], "columns": c.columns[0, :k].tolist()[:SHOWN]}
            found[k].append(Scored(choice, scores, options, None if held is None else held[at]))
    return found


def best_k(by_k: dict[int, list[Scored]]) -> list[Scored]:
    """k chosen inside the folds too: for each job the k of the best cross-fitted validation AUC, smaller first."""
    made: list[Scored] = []
    for same in zip(*(by_k[k] for k in sorted(by_k)), strict=True):
        best = max(range(len(same)), key=lambda i: (same[i].choice.validation, -i))
        made.append(Scored(crossed([s.choice for s in same], best), same[best].test, same[best].options))
    return made


def crossed(choices: Sequence[Choice], best: int) -> Choice:
    """The choice among several whose fold AUC is that of the one which the other folds prefer."""
    table = np.array([choice.fold_auc for choice in choices])
    if table.size == 0 or table.shape[1] < 2:
        return Choice(best, choices[best].fold_auc)
    others = table.sum(1, keepdims=True) - table
    return Choice(best, tuple(table[others.argmax(0), np.arange(table.shape[1])].tolist()))
