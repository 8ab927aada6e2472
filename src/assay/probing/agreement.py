"""How far two finders agree on a corpus: rank correlation, and the overlap of their first texts, each with an interval over texts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEVEL = 0.95
AT_ONCE = 100  # resamples held at a time


def rank_correlation(a: Floats, b: Floats, rng: np.random.Generator, resamples: int) -> tuple[float, float, float]:
    """Spearman's correlation of two scores [n] of the same texts, ties at their mean rank, with a bootstrap interval over texts.

    In a resample a text keeps the rank that it has among all texts. NaN where one of them is constant.
    """
    stats: Any = import_module("scipy.stats")
    x, y = (np.asarray(stats.rankdata(values), dtype=np.float64) for values in (a, b))
    x, y = ((values - values.mean()) / max(float(values.std()), 1e-300) for values in (x, y))
    if not x.any() or not y.any():
        return float("nan"), float("nan"), float("nan")
    terms = np.stack([np.ones(len(x)), x, y, x * y, x * x, y * y], 1)
    drawn: list[Floats] = []
    for start in range(0, resamples, AT_ONCE):
        weight = rng.poisson(1.0, (min(AT_ONCE, resamples - start), len(x))).astype(np.float64)
        drawn.append(_correlation(weight @ terms))
    low, high = np.nanquantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(_correlation(terms.sum(0)[None])[0]), float(low), float(high)


def _correlation(sums: Floats) -> Floats:
    n, x, y, xy, xx, yy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))


def overlap(a: Ints, b: Ints, n: int, rng: np.random.Generator, resamples: int) -> tuple[float, float, float]:
    """Share of the first n texts of b that are among the first n of a, with a bootstrap interval over the texts of the corpus.

    a, b: texts in the order of the two finders, longer than n, so that a resample in which some are missing still has its first n.
    Each text of the corpus enters a resample as often as a Poisson variable of mean 1 says, the same for both finders.
    """
    texts, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    first, second = place[: len(a)], place[len(a) :]
    whole = _shared(first, second, n, np.ones((1, len(texts))))
    drawn: list[Floats] = []
    for start in range(0, resamples, AT_ONCE):
        weight = rng.poisson(1.0, (min(AT_ONCE, resamples - start), len(texts))).astype(np.float64)
        drawn.append(_shared(first, second, n, weight))
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(whole[0]), float(low), float(high)


def _shared(first: Ints, second: Ints, n: int, weight: Floats) -> Floats:
    """weight [resamples, texts] -> the share of the second's first n that the first's have too [resamples]."""
    taken = [np.zeros_like(weight), np.zeros_like(weight)]
    for order, into in zip((first, second), taken, strict=True):
        mine = weight[:, order]
        before = mine.cumsum(1) - mine
        into[:, order] = np.clip(n - before, 0, mine)
    return np.minimum(*taken).sum(1) / np.maximum(taken[1].sum(1), 1)
