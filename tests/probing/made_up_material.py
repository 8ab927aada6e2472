"""Small made-up material: texts, vectors and codes in which some columns know the label and most do not."""

from __future__ import annotations

import numpy as np
import torch

from assay.probing.data import Task, make_task
from assay.probing.features import Sparse
from assay.probing.harvest import Harvested
from assay.probing.protocol import Job, Material
from assay.probing.splits import split

WORDS = ("red", "blue", "stone", "river", "cloud", "tree", "house", "road", "night", "lamp")


def made_task(n: int, seed: int = 0, name: str = "made-up") -> Task:
    rng = np.random.default_rng(seed)
    texts = [f"{i} " + " ".join(rng.choice(WORDS, 12)) for i in range(n)]
    return make_task(name, texts, [int(v) for v in rng.permutation(np.arange(n) % 2)], "made up")


def made_material(task: Task, d: int = 12, signal: float = 1.0, seed: int = 0, f: int = 40) -> Material:
    """Vectors whose first coordinate leans with the label; codes of f latents, of which latent 3 does."""
    rng = np.random.default_rng(seed + 1)
    n, lean = len(task), signal * (2 * task.labels - 1.0)
    x = rng.normal(size=(n, d)) + 0.5
    x[:, 0] += lean
    codes = np.where(rng.random((n, f)) < 0.2, rng.exponential(size=(n, f)), 0.0)
    codes[:, 3] = np.maximum(codes[:, 3] + lean, 0)
    row, latent = codes.nonzero()
    pointer = torch.from_numpy(np.concatenate([[0], np.bincount(row, minlength=n).cumsum()]))
    made = Sparse.of(pointer, torch.from_numpy(latent), torch.from_numpy(codes[row, latent]).float(), (n, f))
    vectors = {pool: torch.from_numpy(x).float() for pool in ("mean", "last", "max")}
    harvested = Harvested(vectors, torch.full((n,), 12), 0, {"sae": {pool: made for pool in vectors}})
    return Material(task.name, task.texts, harvested, "mean")


def made_job(task: Task, seed: int = 0, n_folds: int = 3) -> Job:
    s = split(task.texts, task.labels, seed, n_folds=n_folds)
    return Job(seed, s.train, s.test, task.labels[s.train], s.fold, n_folds)
