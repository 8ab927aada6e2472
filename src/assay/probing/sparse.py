"""k-sparse probes: the k columns that differ most between the classes, and a logistic regression on them.

One selector for every kind of column: |mean of class 1 - mean of class 0| / pooled standard deviation, on the rows that the fit may see
and on no others. Columns are chosen anew for each fold. k columns are the first k of the largest k, so one selection serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from assay.baselines.logistic import Fit, fit
from assay.probing.features import Features
from assay.probing.linear import C_GRID, TALLY, TOL
from assay.probing.protocol import Choice, Job, Scored, choices, crossed, own_fold

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
    single = jobs[0].n_folds  # how many fits hold out one fold; the rest hold out two
    whole, folds, pairs = (
        _matrices([one.all for one in cut]),
        _matrices([part for one in cut for part in one.seen[:single]]),
        _matrices([part for one in cut for part in one.seen[single:]]),
    )
    strengths = torch.tensor(C_GRID)
    fitted = [m.fits(ks, strengths) if len(m.y) else None for m in (whole, folds, pairs)]
    solved = {k: [None if fits is None else fits[k] for fits in fitted] for k in ks}
    found: dict[int, list[Scored]] = {k: [] for k in ks}
    for i, (job, one) in enumerate(zip(jobs, cut, strict=True)):
        inside = _inside(solved, i, one, job) if single else None
        made = [Choice(len(C_GRID) // 2)] * len(ks) if inside is None else choices(inside, job)
        for j, (k, choice) in enumerate(zip(ks, made, strict=True)):
            test = _scores(solved[k][0], i, one.test[:k], slice(choice.index, choice.index + 1))[0]
            columns = chosen[i].columns[0, : min(k, SHOWN)].tolist()
            options = {"k": k, "C": C_GRID[choice.index], "columns": columns}
            held = None if inside is None else own_fold(inside[j], job)[choice.index]
            found[k].append(Scored(choice, test, options, held))
    return found


def _inside(solved: dict[int, list[Fit | None]], i: int, cut: _Cut, job: Job) -> Tensor:
    """Scores of job i's rows by the fits that did not see them [ks, parts - 1, C, n], 0 elsewhere."""
    made = torch.zeros(len(solved), job.parts - 1, len(C_GRID), len(job.y))
    for part, (where, x) in enumerate(cut.held):
        kind, place, n = (
            (1, part, job.n_folds) if part < job.n_folds else (2, part - job.n_folds, job.parts - 1 - job.n_folds)
        )
        for j, (k, fits) in enumerate(solved.items()):
            made[j, part][:, where] = _scores(fits[kind], i * n + place, x[:k])
    return made.index_select(3, cut.back)


class _Cut:
    """A job's chosen columns, scaled, by what a fit may see: training rows in the order of their folds.

    all [k, n] and test [k, n_test] for the fit on all rows; for each fit that holds out folds: seen, a piece [k, rows] of each fold
    that it sees, with labels, and held, the places of the others and their [k, rows]. `back` puts rows into the job's order.
    """

    def __init__(self, table: Tensor, place: Tensor, chosen: Selected, job: Job) -> None:
        order = np.argsort(job.fold, kind="stable") if job.n_folds else np.arange(len(job.y))
        self.back = torch.from_numpy(np.argsort(order))
        y = torch.from_numpy(job.y[order]).float()
        own, inside = torch.unique(place, return_inverse=True)
        mine = table.index_select(0, own).index_select(1, torch.from_numpy(job.train[order]))

        def scaled(x: Tensor, part: int) -> Tensor:
            return x.sub_(chosen.mean[part, :, None]).div_(chosen.spread[part, :, None])

        self.test = scaled(table.index_select(0, place[0]).index_select(1, torch.from_numpy(job.test)), 0)
        self.all = ((scaled(mine.index_select(0, inside[0]), 0), y),)
        self.seen: list[list[tuple[Tensor, Tensor]]] = []
        self.held: list[tuple[Tensor, Tensor]] = []
        ends = np.searchsorted(job.fold[order], np.arange(job.n_folds + 1))
        folds = [slice(int(start), int(end)) for start, end in pairwise(ends)] if job.n_folds else []
        for part, out in enumerate(job.held_out[1:], 1):
            x = scaled(mine.index_select(0, inside[part]), part)
            self.seen.append([(x[:, rows], y[rows]) for f, rows in enumerate(folds) if f not in out])
            where = torch.cat([torch.arange(folds[f].start, folds[f].stop) for f in out])
            self.held.append((where, x[:, where]))


@dataclass(frozen=True)
class _Matrices:
    """Problems of one size: x [P, k, rows], y [P, rows], weight [P, rows, 1], 0 for rows that only fill up."""

    x: Tensor
    y: Tensor
    weight: Tensor

    def fits(self, ks: Sequence[int], strengths: Tensor) -> dict[int, Fit]:
        """For each k, ascending, on the first k columns."""
        narrow = [k for k in ks if k <= TOGETHER]
        found: dict[int, Fit] = {}
        for some in (narrow, *([k] for k in ks if k > TOGETHER)):
            found |= self._fits(some, strengths) if some else {}
        return found

    def _fits(self, ks: Sequence[int], strengths: Tensor) -> dict[int, Fit]:
        """All k in one solve: a problem a k, the columns beyond it 0."""
        x = self.x[:, : ks[-1]]
        if len(ks) > 1:
            x = torch.cat([torch.nn.functional.pad(x[:, :k], (0, 0, 0, ks[-1] - k)) for k in ks])
        all_y, all_weight = self.y.repeat(len(ks), 1), self.weight.repeat(len(ks), 1, 1)
        found = fit(x.transpose(1, 2), all_y, all_weight, strengths, tol=TOL)
        TALLY.add(found)
        parts = zip(*(t.chunk(len(ks)) for t in (found.coef, found.intercept, found.converged)), strict=True)
        return {k: Fit(coef[:, :k], b, done, found.n_iter) for k, (coef, b, done) in zip(ks, parts, strict=True)}


def _matrices(flat: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> _Matrices:
    """One problem a part: its pieces of rows beside each other."""
    sizes = [sum(len(y) for _, y in part) for part in flat]
    x = flat[0][0][0].new_empty(len(flat), len(flat[0][0][0]), max(sizes)) if flat else torch.empty(0, 0, 0)
    y = x.new_zeros(len(flat), x.shape[2])
    weight = x.new_zeros(len(flat), x.shape[2], 1)
    for i, part in enumerate(flat):
        end = 0
        for some, labels in part:
            start, end = end, end + len(labels)
            x[i, :, start:end], y[i, start:end], weight[i, start:end] = some, labels, 1
        x[i, :, end:] = 0
    return _Matrices(x, y, weight)


def _scores(solved: Fit | None, problem: int, x: Tensor, c: slice = slice(None)) -> Tensor:
    """[C, rows] of x [k, rows] by a problem's fits at `c`, rounded from double precision.

    Rows of equal columns are common among sparse codes and have to get equal scores. A product in single precision rounds
    differently in different places of a matrix and would order them by chance.
    """
    assert solved is not None
    coef, intercept = solved.coef[problem, :, c].double(), solved.intercept[problem, c].double()
    return (coef.t() @ x.double() + intercept[:, None]).float()


def best_k(by_k: dict[int, list[Scored]]) -> list[Scored]:
    """k chosen inside the folds too: for each job the k of the best validation AUC, smaller first."""
    made: list[Scored] = []
    for same in zip(*(by_k[k] for k in sorted(by_k)), strict=True):
        best = max(range(len(same)), key=lambda i: (same[i].choice.validation, -i))
        made.append(Scored(crossed([s.choice for s in same], best), same[best].test, same[best].options))
    return made
