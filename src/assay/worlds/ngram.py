"""Baselines of a language model: unigrams, bigrams and an interpolated trigram, their constants chosen on validation.

    p1(w)        = (n(w) + k) / (N + k V)
    p2(w | v)    = (n(vw) + k) / (n(v.) + k V)                                   add-k
    p3(w | u v)  = a n(uvw)/n(uv.) + b n(vw)/n(v.) + (1 - a - b) p1(w)           Jelinek-Mercer
An unseen context gives its weight to the unigrams.
Documents are lists of token ids that begin with the beginning-of-text token; it is a context and never a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

KS = (1e-6, 1e-5, 1e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
WEIGHTS = tuple(
    (a, b)
    for a, b in product((0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3))
    if a + b < 0.9995
)

Documents = Sequence[Sequence[int]]


class NGrams:
    """Counts over training documents; `nll_*` give the negative log likelihood of every target token, in nats."""

    def __init__(self, documents: Documents, n_vocabulary: int) -> None:
        self.n_vocabulary = v = n_vocabulary
        older, before, target = _windows(documents)
        self.one = np.bincount(target, minlength=v).astype(np.float64)
        self.two = np.bincount(before * v + target, minlength=v * v).reshape(v, v).astype(np.float64)
        self.from_one = self.two.sum(1)
        self.keys, self.three = np.unique((older * v + before) * v + target, return_counts=True)
        self.contexts, inverse = np.unique(self.keys // v, return_inverse=True)
        self.from_two = np.bincount(inverse, weights=self.three)

    def unigram(self, documents: Documents, k: float) -> np.ndarray:
        """p1 of every target token."""
        _, _, target = _windows(documents)
        return (self.one[target] + k) / (self.one.sum() + k * self.n_vocabulary)

    def bigram(self, documents: Documents, k: float) -> np.ndarray:
        _, before, target = _windows(documents)
        return (self.two[before, target] + k) / (self.from_one[before] + k * self.n_vocabulary)

    def trigram(self, documents: Documents, weights: tuple[float, float], k: float) -> np.ndarray:
        a, b = weights
        older, before, target = _windows(documents)
        context = older * self.n_vocabulary + before
        n_context = _count(self.contexts, self.from_two, context)
        n_three = _count(self.keys, self.three, context * self.n_vocabulary + target)
        n_before = self.from_one[before]
        shorter = np.where(n_before > 0, b * self.two[before, target] / np.maximum(n_before, 1), 0)
        used = np.where(n_before > 0, b, 0.0) + np.where(n_context > 0, a, 0.0)
        longer = np.where(n_context > 0, a * n_three / np.maximum(n_context, 1), 0)
        return longer + shorter + (1 - used) * self.unigram(documents, k)


def _windows(documents: Documents) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(two before, one before, target) of every target; before the first token stands the first token."""
    older, before, target = [], [], []
    for document in documents:
        ids = np.asarray(document, dtype=np.int64)
        older.append(np.concatenate([ids[:1], ids[:-2]]))
        before.append(ids[:-1])
        target.append(ids[1:])
    return np.concatenate(older), np.concatenate(before), np.concatenate(target)


def _count(keys: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, counts[at], 0.0)


def baselines(train: Documents, validation: Documents, heldout: Documents, n_vocabulary: int) -> dict[str, dict]:
    """{name: {"nll": nats of every held-out target token, "chosen": constants}}, constants chosen on `validation`."""
    grams = NGrams(train, n_vocabulary)
    found: dict[str, dict] = {}
    for name, model in (("unigram", grams.unigram), ("bigram", grams.bigram)):
        k = min(KS, key=lambda k: -np.log(model(validation, k)).mean())
        found[name] = {"nll": -np.log(model(heldout, k)), "chosen": {"k": k}}
    k = found["unigram"]["chosen"]["k"]
    weights = min(WEIGHTS, key=lambda w: -np.log(grams.trigram(validation, w, k)).mean())
    found["trigram"] = {
        "nll": -np.log(grams.trigram(heldout, weights, k)),
        "chosen": {"weights": list(weights), "k": k},
    }
    return found
