"""How fast probing is, given cached activations: the batched solver against scikit-learn one fit at a time, on the same fits, in one run.

    python bench/probing_speed.py [TASKS] [ROWS]        threads as in OMP_NUM_THREADS; a minute with the defaults

Made-up activations of MiniLM's width (384) and codes of a dictionary of 1,024 latents, about 60 of which are on in a pooled text. The work of
a task: logistic regression on all coordinates, and sparse probes of seven kinds of columns at five k, five seeds, three folds, five C. scikit-learn
(lbfgs, its default tolerance) is timed on a sample of these very fits: SAMPLE of each size, on the same columns of the same rows, each with the
AUC of its held-out rows; choosing the columns is not counted against it. Seconds are those of the processor, so that other work on the machine
does not count.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from assay.probing.arms import lr
from assay.probing.data import Task, make_task
from assay.probing.features import Dense, Features, Sparse
from assay.probing.harvest import Harvested
from assay.probing.linear import C_GRID, TALLY, standardised
from assay.probing.protocol import Job, Material
from assay.probing.sparse import K_GRID, probes, select
from assay.probing.splits import split

WIDTH, LATENTS, ACTIVE, SEEDS, FOLDS, KINDS, SAMPLE = 384, 1024, 60, 5, 3, 7, 6
GOAL_TASKS = 113


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


def one_by_one(x: np.ndarray, y: np.ndarray, masks: np.ndarray) -> list[float]:
    """Seconds of SAMPLE fits of scikit-learn, spread over folds and C."""
    spent = []
    for i in range(SAMPLE):
        rows = masks[i % len(masks)] > 0
        started = time.process_time()
        made = LogisticRegression(C=C_GRID[i % len(C_GRID)], max_iter=1000).fit(x[rows], y[rows])
        held = ~rows if not rows.all() else rows
        roc_auc_score(y[held], made.decision_function(x[held]))
        spent.append(time.process_time() - started)
    return spent


def main() -> None:
    n_tasks, n = (int(word) for word in (*sys.argv[1:], *("2", "2000")[len(sys.argv) - 1 :]))
    warnings.simplefilter("ignore")
    ours = theirs = 0.0
    for seed in range(n_tasks):
        task, material, kinds = made(n, seed)
        jobs = jobs_of(task)
        per_job = (FOLDS + 1) * len(C_GRID)
        started = time.process_time()
        lr.run(material, jobs)
        ours += (dense := time.process_time() - started)
        job = jobs[0]
        x = standardised(material.x, torch.from_numpy(job.train)).numpy()[job.train]
        fits = statistics.mean(one_by_one(x, job.y, job.masks().numpy())) * per_job * SEEDS
        theirs += fits
        print(f"{task.name}: lr on {WIDTH} coordinates: {dense:.2f} s, scikit-learn {fits:.2f} s")
        for name, features in kinds.items():
            started = time.process_time()
            probes(features, jobs)
            ours += (spent := time.process_time() - started)
            chosen = select(features, job, max(K_GRID))
            columns = features.columns(chosen.columns[0])[torch.from_numpy(job.train)]
            z = ((columns - chosen.mean[0]) / chosen.spread[0]).numpy()
            one = [statistics.mean(one_by_one(z[:, :k], job.y, job.masks().numpy())) for k in K_GRID]
            theirs += sum(one) * per_job * SEEDS
            print(f"  {name}: {spent:.2f} s, scikit-learn {sum(one) * per_job * SEEDS:.2f} s for the fits alone")
    print(
        f"{n_tasks} tasks of {n} rows, {torch.get_num_threads()} threads: ours {ours:.1f} s, scikit-learn one fit at a time {theirs:.1f} s, "
        f"{theirs / ours:.1f} times; {GOAL_TASKS} tasks would take {ours / n_tasks * GOAL_TASKS / 60:.1f} min. {TALLY.open} of {TALLY.fits:,} fits open."
    )


if __name__ == "__main__":
    main()
