"""TF-IDF of words and pairs of words, then logistic regression: what no model at all can do.

Vocabulary and document frequencies come from the training rows. There are more words than rows, so the regression is solved in the
eigenvectors of the training rows' products, which changes nothing: the penalty does not see a rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch

from assay.probing.linear import probe
from assay.probing.protocol import Job, Material, Scored

ABOUT = "TF-IDF of words and word pairs, logistic regression"
ROLE, ACCESS, SLOW = "baseline", "text", False
C_GRID = (0.1, 1.0, 10.0, 100.0, 1000.0)
CHARACTERS = 4000  # of a text that are read
FEWEST = 2  # training texts a word must be in
PATTERN = r"(?u)\b\w+\b|[^\w\s]"  # what counts as a word
FLAT = 1e-6  # directions of less than this share of the largest eigenvalue are left out


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    text: Any = import_module("sklearn.feature_extraction.text")
    counter = text.CountVectorizer(ngram_range=(1, 2), dtype=np.float32, token_pattern=PATTERN)
    counts = counter.fit_transform([t[:CHARACTERS] for t in material.texts]).tocsr()
    counts.data = 1 + np.log(counts.data)
    made: dict[
        tuple[bytes, bytes], torch.Tensor
    ] = {}  # jobs on the same rows, with other labels, share their coordinates
    rows = [(job.train.tobytes(), job.test.tobytes()) for job in jobs]
    for key, job in zip(rows, jobs, strict=True):
        if key not in made:
            made[key] = _design(counts, job)
    return probe([made[key] for key in rows], jobs, C_GRID)


def _design(counts: Any, job: Job) -> torch.Tensor:
    """Coordinates of training and test rows in the space that the training rows span."""
    linear: Any = import_module("sklearn.preprocessing")
    train, n = counts[job.train], len(job.train)
    seen = np.asarray((train > 0).sum(0)).ravel()
    kept = np.flatnonzero(seen >= min(FEWEST, max(n // 10, 1)))
    if not len(kept):
        return torch.zeros(n + len(job.test), 1)
    idf = (np.log((1 + n) / (1 + seen[kept])) + 1).astype(np.float32)
    rows = linear.normalize(counts[np.concatenate([job.train, job.test])][:, kept].multiply(idf).tocsr())
    products = torch.from_numpy((rows @ rows[:n].T).toarray()).double()
    size, left = torch.linalg.eigh(products[:n])
    good = size > FLAT * size[-1]
    return (products @ (left[:, good] / size[good].sqrt())).float()
