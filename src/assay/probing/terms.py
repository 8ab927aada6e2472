"""The words that tell a task apart: what any claim about what a latent found has to be held against.

Words and word pairs, weighted by TF-IDF as in the arm `tfidf`, go through the same selector and the same k-sparse probe as latents do. The
AUC of the one best word is nested, so that it can stand beside that of the one best latent; the words that are listed are chosen on
all rows, and describe the task.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from assay.probing.arms.tfidf import FEWEST, PATTERN
from assay.probing.data import Task
from assay.probing.features import Sparse
from assay.probing.protocol import Job
from assay.probing.sparse import probes
from assay.probing.splits import folds, rank

ROWS = 800  # of a task that are looked at, drawn by hash
CHARACTERS = 1500  # of a text that are read
FOLDS = 3
LISTED = 16


def top(task: Task) -> dict[str, Any]:
    """{"auc": of the one best word, "terms": [{term, with_positive, with_negative}]}; empty where there are too few rows or words.

    with_positive and with_negative: the share of the texts of each class that hold the word.
    """
    rows = np.sort(rank(task.texts, 0, "terms")[:ROWS])
    y = task.labels[rows]
    if np.bincount(y, minlength=2).min() < 2 * FOLDS:
        return {}
    text: Any = import_module("sklearn.feature_extraction.text")
    counter = text.TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=FEWEST, token_pattern=PATTERN, dtype=np.float32
    )
    try:
        counts = counter.fit_transform([task.texts[i][:CHARACTERS] for i in rows]).tocsr()
    except ValueError:  # no word is in two texts
        return {}
    counts.sort_indices()
    columns = Sparse.of(
        torch.from_numpy(counts.indptr), torch.from_numpy(counts.indices), torch.from_numpy(counts.data), counts.shape
    )
    own = np.arange(len(rows))
    job = Job(0, own, own[:1], y, folds(y, FOLDS), FOLDS)
    listed = min(LISTED, counts.shape[1])
    found = probes(columns, [job], tuple(dict.fromkeys((1, listed))))
    words = counter.get_feature_names_out()
    held = counts > 0
    return {
        "auc": found[1][0].choice.validation,
        "terms": [
            {
                "term": str(words[column]),
                "with_positive": float(held[y == 1][:, column].mean()),
                "with_negative": float(held[y == 0][:, column].mean()),
            }
            for column in found[listed][0].options["columns"]
        ],
    }
