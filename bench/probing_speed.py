"""How fast probing is, given cached activations: the batched solver against scikit-learn one fit at a time, on the same fits, in one run.

    python bench/probing_speed.py [TASKS] [ROWS] [--whole]        threads as in OMP_NUM_THREADS; a minute with the defaults

Made-up activations of MiniLM's width (384) and codes of a dictionary of 1,024 latents, about 60 of which are on in a pooled text. The work of
a task: logistic regression on all coordinates, and sparse probes of seven kinds of columns at five k, five seeds, three folds, five C: 6,300
fits on at most 1,024 rows. Ours is timed from cached vectors and codes to test AUCs, the choice of columns, their scaling and the folds' AUCs
included. Of scikit-learn (lbfgs and newton-cholesky, default tolerance, float32) only the fits and the AUCs that are needed: of the held-out rows of each
fold and C, and of the test rows for one C; columns are chosen and scaled for it. It is timed on SAMPLE of these very fits of each size and
kind; with --whole on every fit of the first task as well, which says what the sample is worth. Seconds are those of the processor, so that
other work on the machine counts little; wall-clock seconds stand beside them.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from assay.probing.arms import lr
from assay.probing.data import Task, make_task
from assay.probing.features import Dense, Features, Sparse
from assay.probing.harvest import Harvested
from assay.probing.linear import C_GRID, TALLY, standardised
from assay.probing.protocol import Job, Material, judge
from assay.probing.sparse import K_GRID, probes, select
from assay.probing.splits import split

WIDTH, LATENTS, ACTIVE, SEEDS, FOLDS, KINDS, SAMPLE = 384, 1024, 60, 5, 3, 7, 6
GOAL_TASKS, GOAL_TIMES = 113, 20
SOLVERS = ("lbfgs", "newton-cholesky")
PARTS = 1 + FOLDS + FOLDS * (FOLDS - 1) // 2  # on all rows, without each fold, without each two
FITS = SEEDS * PARTS * len(C_GRID)  # of one kind of columns at one k
AUCS = SEEDS * (FOLDS**2 * len(C_GRID) + 1)  # each fold by the fit without it, and by those without it and another


def made(n: int, seed: int) -> tuple[Task, Material, dict[str, Features]]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    task = make_task(f"t{seed}", [f"{seed} {i}" for i in range(n)], labels.tolist(), "made up")
    mixing = rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH) * np.geomspace(3, 0.1, WIDTH)[:, None]
    x = rng.normal(size=(n, WIDTH)) @ mixing + np.outer(labels - 0.5, rng.normal(size=WIDTH)) * 0.15
    vectors = {pool: torch.from_numpy(x).float() for pool in ("mean", "last", "max")}
    on = rng.random((n, LATENTS)) < ACTIVE / LATENTS
    codes = np.where(on, rng.exponential(size=(n, LATENTS)) + 0.3 * labels[:, None] * (np.arange(LATENTS) % 7 == 0), 0)
    row, latent = codes.nonzero()
    pointer = torch.from_numpy(np.concatenate([[0], np.bincount(row, minlength=n).cumsum()]))
    sparse = Sparse.of(pointer, torch.from_numpy(latent), torch.from_numpy(codes[row, latent]).float(), (n, LATENTS))
    kinds: dict[str, Features] = {f"codes {i}": sparse for i in range(KINDS // 2)}
    kinds |= {f"dense {i}": Dense(vectors["mean"]) for i in range(KINDS - len(kinds))}
    return task, Material(task.name, task.texts, Harvested(vectors, torch.full((n,), 9), 0, {}), "mean"), kinds


def jobs_of(task: Task) -> list[Job]:
    splits = [split(task.texts, task.labels, seed, n_folds=FOLDS) for seed in range(SEEDS)]
    return [Job(s.seed, s.train, s.test, task.labels[s.train], s.fold, FOLDS) for s in splits]


def ours(task: Task, material: Material, kinds: dict[str, Features], jobs: list[Job]) -> dict[str, tuple[float, float]]:
    """Seconds of (everything, choosing the columns alone) by kind of columns."""
    spent: dict[str, tuple[float, float]] = {}
    for name in (WHOLE_WIDTH, *kinds):
        started = time.process_time()
        by_k = {WIDTH: lr.run(material, jobs)} if name == WHOLE_WIDTH else probes(kinds[name], jobs)
        for scored in by_k.values():
            for job, one in zip(jobs, scored, strict=True):
                judge(one, task.labels[job.test])
        total = time.process_time() - started
        started = time.process_time()
        if name != WHOLE_WIDTH:
            for job in jobs:
                select(kinds[name], job, max(K_GRID))
        spent[name] = total, time.process_time() - started
    return spent


WHOLE_WIDTH = f"lr on {WIDTH} coordinates"


@dataclass
class Theirs:
    """Seconds of scikit-learn's fits by (kind of columns, k, solver), and of its AUCs by (kind of columns, k)."""

    fits: dict[tuple[str, int, str], list[float]] = field(default_factory=dict[tuple[str, int, str], list[float]])
    aucs: dict[tuple[str, int], list[float]] = field(default_factory=dict[tuple[str, int], list[float]])

    def one(self, key: tuple[str, int], solver: str, c: float, part: Part) -> None:
        started = time.process_time()
        model = LogisticRegression(C=c, solver=solver, max_iter=1000).fit(part.x[:, : key[1]], part.y)
        middle = time.process_time()
        roc_auc_score(part.held_y, model.decision_function(part.held_x[:, : key[1]]))
        self.fits.setdefault((*key, solver), []).append(middle - started)
        self.aucs.setdefault(key, []).append(time.process_time() - middle)

    def total(self, name: str | None = None, solvers: tuple[str, ...] = SOLVERS) -> float:
        """Seconds of all fits of a task, by the quickest of `solvers` at each kind and k."""
        return sum(
            min(float(np.mean(self.fits[kind, k, s])) for s in solvers) * FITS + float(np.mean(times)) * AUCS
            for (kind, k), times in self.aucs.items()
            if name in (None, kind)
        )


@dataclass(frozen=True)
class Part:
    """What scikit-learn is given: scaled rows and labels to fit, and those that it is judged by."""

    x: np.ndarray
    y: np.ndarray
    held_x: np.ndarray
    held_y: np.ndarray


def parts(material: Material, features: Features | None, job: Job, truth: np.ndarray) -> list[Part]:
    """For each fit of a job its columns, the best first: all rows judged by the test rows, then the folds."""
    masks = job.masks().numpy() > 0
    chosen = None if features is None else select(features, job, max(K_GRID))
    found: list[Part] = []
    for i, seen in enumerate(masks):
        if features is None or chosen is None:
            z = standardised(material.x, torch.from_numpy(job.train)).numpy()
        else:
            z = ((features.columns(chosen.columns[i]) - chosen.mean[i]) / chosen.spread[i]).contiguous().numpy()
        held = (z[job.test], truth[job.test]) if not i else (z[job.train][~seen], job.y[~seen])
        found.append(Part(z[job.train][seen], job.y[seen], *held))
    return found


def schedule(whole: bool) -> Iterator[tuple[int, int, float]]:
    """(seed, part, C) of the fits that are timed: all, or SAMPLE spread over seeds, folds and C."""
    if whole:
        yield from product(range(SEEDS), range(PARTS), C_GRID)
    else:
        yield from ((i % SEEDS, i % PARTS, C_GRID[i % len(C_GRID)]) for i in range(SAMPLE))


def theirs(
    task: Task, material: Material, kinds: dict[str, Features], jobs: list[Job], whole: bool, solvers: tuple[str, ...]
) -> Theirs:
    found = Theirs()
    for name in (WHOLE_WIDTH, *kinds):
        features = kinds.get(name)
        made_of: dict[int, list[Part]] = {}
        for seed, part, c in schedule(whole):
            if seed not in made_of:
                made_of = {seed: parts(material, features, jobs[seed], task.labels)}
            for k, solver in product(K_GRID if features is not None else (WIDTH,), solvers):
                found.one((name, k), solver, c, made_of[seed][part])
    return found


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--whole"]
    n_tasks, n = (int(word) for word in (*words, *("2", "2000")[len(words) :]))
    warnings.simplefilter("ignore")
    warm = made(400, 99)
    ours(*warm, jobs_of(warm[0]))
    TALLY.fits = TALLY.open = 0
    mine = chosen = default = quickest = wall = 0.0
    for seed in range(n_tasks):
        task, material, kinds = made(n, seed)
        jobs = jobs_of(task)
        started = time.perf_counter()
        spent = ours(task, material, kinds, jobs)
        wall += time.perf_counter() - started - sum(s for _, s in spent.values())
        sampled = theirs(task, material, kinds, jobs, False, SOLVERS)
        for name, (total, _) in spent.items():
            print(
                f"{task.name} {name}: {total:.3f} s, scikit-learn {sampled.total(name, SOLVERS[:1]):.2f} s by lbfgs, "
                f"{sampled.total(name):.2f} s by the quicker solver of each k"
            )
        mine += sum(total for total, _ in spent.values())
        chosen += sum(s for _, s in spent.values())
        default += sampled.total(solvers=SOLVERS[:1])
        quickest += sampled.total()
        if "--whole" in sys.argv and not seed:
            every = theirs(task, material, kinds, jobs, True, SOLVERS[:1]).total(solvers=SOLVERS[:1])
            print(
                f"{task.name}, every fit by lbfgs: {every:.1f} s; {every / sampled.total(solvers=SOLVERS[:1]):.2f} times the sample's word"
            )
    print(
        f"{n_tasks} tasks of {n} rows, {torch.get_num_threads()} threads: ours {mine:.2f} s ({wall:.2f} s on the clock; {chosen / mine:.0%} choose columns), "
        f"scikit-learn one fit at a time {default:.1f} s by lbfgs, {default / mine:.1f} times; {quickest:.1f} s by the quicker solver of each k, "
        f"{quickest / mine:.1f} times (goal {GOAL_TIMES}). {GOAL_TASKS} tasks: {mine / n_tasks * GOAL_TASKS / 60:.1f} min. "
        f"{TALLY.open} of {TALLY.fits:,} fits open."
    )


if __name__ == "__main__":
    main()
