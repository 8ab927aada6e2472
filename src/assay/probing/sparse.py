"""k-sparse probes: the k columns that differ most between the classes, and a logistic regression on them.

One selector for every kind of column: |mean of class 1 - mean of class 0| / pooled standard deviation, on the rows that the fit may see
and on no others. Columns are chosen anew for each fold. k columns are the first k of the largest k, so one selection serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from assay.baselines.logistic import fit
from assay.probing.features import Features
from assay.probing.linear import C_GRID, TALLY, TOL
from assay.probing.protocol import Choice, Job, Scored, choices, crossed

K_GRID = (1, 2, 5, 16, 128)
QUIET = 1e-12  # columns of less variance than this share of the largest say nothing
SHOWN = 16  # columns that are written down
TOGETHER = 16  # sizes up to this many columns are solved as one, the narrower ones with columns of zeros
PROBLEMS_AT_ONCE = 2**23  # numbers of x held in one batch of problems


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
    for (n, _), same in shapes.items():
        size = max(1, PROBLEMS_AT_ONCE // (same[0].parts * n * widest))
        groups += [same[i : i + size] for i in range(0, len(same), size)]
    return groups


@torch.no_grad()
def _together(features: Features, jobs: Sequence[Job], ks: Sequence[int], widest: int) -> dict[int, list[Scored]]:
    chosen = [select(features, job, widest) for job in jobs]
    needed, place = torch.unique(torch.stack([c.columns for c in chosen]), return_inverse=True)
    table = features.columns(needed).t()  # [columns that some fit chose, n]
    cut = [_Cut(table, place[i], c, job) for i, (c, job) in enumerate(zip(chosen, jobs, strict=True))]
    strengths = torch.tensor(C_GRID)
    solved: list[_Lines] = []
    for parts in _sizes(jobs[0]):
        problems = _matrices([one.seen[part] for part in parts for one in cut])
        solved.append(_solved(problems, ks, strengths, (len(parts), len(jobs))))
    lines = _Lines(torch.cat([some.coef for some in solved]), torch.cat([some.intercept for some in solved]))
    found: dict[int, list[Scored]] = {k: [] for k in ks}
    for i, (job, one) in enumerate(zip(jobs, cut, strict=True)):
        held = [
            lines.scores(parts, i, one.held(parts, f)) for f, parts in enumerate(map(job.without, range(job.n_folds)))
        ]
        made = choices(held, one.job) if held else [Choice(len(C_GRID) // 2)] * len(ks)
        (test,) = lines.scores([0], i, one.test[None])
        for j, (k, choice) in enumerate(zip(ks, made, strict=True)):
            columns = chosen[i].columns[0, : min(k, SHOWN)].tolist()
            options = {"k": k, "C": C_GRID[choice.index], "columns": columns}
            own = torch.cat([scores[0, j, choice.index] for scores in held])[one.back] if held else None
            found[k].append(Scored(choice, test[j, choice.index], options, own))
    return found


def _sizes(job: Job) -> list[range]:
    """Parts of a job that see as many folds as each other: all, all but one, all but two."""
    one, two = 1 + job.n_folds, job.parts
    return [parts for parts in (range(1), range(1, one), range(one, two)) if parts]


class _Cut:
    """A job's chosen columns, scaled, by what a fit may see. `job` has the training rows in the order of their folds; `back` undoes it.

    x, for each fit [k, n] and test [k, n_test] for the one on all rows; seen, for each fit the pieces [k, rows] of the folds that it
    sees, with labels.
    """

    def __init__(self, table: Tensor, place: Tensor, chosen: Selected, job: Job) -> None:
        order = np.argsort(job.fold, kind="stable")
        self.back = torch.from_numpy(np.argsort(order))
        self.job = replace(job, train=job.train[order], y=job.y[order], fold=job.fold[order])
        y = torch.from_numpy(self.job.y).float()
        own, inside = torch.unique(place, return_inverse=True)
        mine = table.index_select(0, own).index_select(1, torch.from_numpy(self.job.train))

        def scaled(x: Tensor, part: int) -> Tensor:
            return x.sub_(chosen.mean[part, :, None]).div_(chosen.spread[part, :, None])

        self.test = scaled(table.index_select(0, place[0]).index_select(1, torch.from_numpy(job.test)), 0)
        ends = np.searchsorted(self.job.fold, np.arange(max(job.n_folds, 1) + 1)).tolist()
        self.folds = [slice(start, end) for start, end in pairwise(ends)]
        self.x = [scaled(mine.index_select(0, inside[part]), part) for part in range(job.parts)]
        self.seen = [
            [(x[:, rows], y[rows]) for f, rows in enumerate(self.folds) if f not in out]
            for x, out in zip(self.x, job.held_out, strict=True)
        ]

    def held(self, parts: Sequence[int], fold: int) -> Tensor:
        """A fold's rows as some fits are to score them [parts, k, rows]."""
        return torch.stack([self.x[part][:, self.folds[fold]] for part in parts])


@dataclass(frozen=True)
class _Matrices:
    """Problems of one size: x [P, k, rows], y [P, rows], weight [P, rows, 1], 0 for rows that only fill up."""

    x: Tensor
    y: Tensor
    weight: Tensor


def _matrices(flat: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> _Matrices:
    """One problem a part: its pieces of rows beside each other."""
    sizes = [sum(len(y) for _, y in part) for part in flat]
    x = flat[0][0][0].new_empty(len(flat), len(flat[0][0][0]), max(sizes))
    y = x.new_zeros(len(flat), x.shape[2])
    weight = x.new_zeros(len(flat), x.shape[2], 1)
    for i, part in enumerate(flat):
        end = 0
        for some, labels in part:
            start, end = end, end + len(labels)
            x[i, :, start:end], y[i, start:end], weight[i, start:end] = some, labels, 1
        x[i, :, end:] = 0
    return _Matrices(x, y, weight)


@dataclass(frozen=True)
class _Lines:
    """Fits at each k and C in double precision: coef [parts, jobs, ks, C, widest k], 0 beyond k, and intercept [parts, jobs, ks, C]."""

    coef: Tensor
    intercept: Tensor

    def scores(self, parts: Sequence[int], job: int, x: Tensor) -> Tensor:
        """[parts, ks, C, rows] of x [parts, k, rows], rounded from double precision.

        Rows of equal columns are common among sparse codes and have to get equal scores. A product in single precision rounds
        differently in different places of a matrix and would order them by chance.
        """
        coef, intercept = self.coef[parts, job], self.intercept[parts, job]
        product = coef.flatten(1, 2) @ x[:, : coef.shape[-1]].double()
        return (product.unflatten(1, coef.shape[1:3]) + intercept[..., None]).float()


def _solved(m: _Matrices, ks: Sequence[int], strengths: Tensor, shape: tuple[int, int]) -> _Lines:
    """For each k, ascending, a fit on the first k columns: the narrow ones as one solve, with columns of zeros beyond k.

    shape: (parts, jobs) of the problems.
    """
    coef = m.x.new_zeros(len(m.x), len(ks), len(strengths), ks[-1], dtype=torch.float64)
    intercept = coef.new_zeros(coef.shape[:3])
    n_narrow = sum(k <= TOGETHER for k in ks)
    for some in (ks[:n_narrow], *([k] for k in ks[n_narrow:])):
        if not some:
            continue
        x = m.x[:, : some[-1]]
        if len(some) > 1:
            x = torch.cat([torch.nn.functional.pad(x[:, :k], (0, 0, 0, some[-1] - k)) for k in some])
        y, weight = m.y.repeat(len(some), 1), m.weight.repeat(len(some), 1, 1)
        found = fit(x.transpose(1, 2), y, weight, strengths, tol=TOL)
        TALLY.add(found)
        for k, coef_k, b in zip(some, found.coef.chunk(len(some)), found.intercept.chunk(len(some)), strict=True):
            j = ks.index(k)
            coef[:, j, :, :k], intercept[:, j] = coef_k[:, :k].transpose(1, 2), b
    return _Lines(coef.unflatten(0, shape), intercept.unflatten(0, shape))


def best_k(by_k: dict[int, list[Scored]]) -> list[Scored]:
    """k chosen inside the folds too: for each job the k of the best validation AUC, smaller first."""
    made: list[Scored] = []
    for same in zip(*(by_k[k] for k in sorted(by_k)), strict=True):
        best = max(range(len(same)), key=lambda i: (same[i].choice.validation, -i))
        made.append(Scored(crossed([s.choice for s in same], best), same[best].test, same[best].options))
    return made
