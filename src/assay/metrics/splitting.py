"""Splitting and absorption of a feature whose tokens are known, from sparse codes and labels.

k-sparse probe   a logistic probe on k latents. Latents are added one by one: next is the one that would raise the log-likelihood most,
                 to second order and by itself; the first is thus the largest difference of the classes' means in standard deviations.
split            the number of latents until one more raises F1 by no more than a margin (.03 in SAEBench, at most 10 latents).
absorbed         a token where the feature holds, none of those latents fires, and one other latent, whose direction points along
                 the feature's probe, carries most of what the code says along the probe.

After Chanin et al. 2024, arXiv 2409.14507, and SAEBench, arXiv 2503.09532 (by their descriptions). Differs: latents are chosen
by the score statistic, not by an L1 probe. Classes weigh alike in every fit; F1 is at the cut that is best on the rows of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
INVERSE_RIDGE = 1.0  # of rows whose columns have mean square 1


@dataclass(frozen=True)
class Probe:
    """score = a @ weight + bias, a [n, p]; positive from `cut` on."""

    weight: Floats
    bias: float
    cut: float

    def score(self, a: Floats) -> Floats:
        return a @ self.weight + self.bias

    def says(self, a: Floats) -> Bools:
        return self.score(a) >= self.cut


@dataclass(frozen=True)
class Split:
    """`latents`: those that the feature is split into; `f1[k - 1]`: F1 of the first k on the other rows, one k more where there is one."""

    latents: list[int]
    f1: list[float]


def logistic(a: Floats, y: Bools) -> Probe:
    """A logistic probe on a [n, p] for y [n], both values present, classes of equal weight; small ridge in units of each column."""
    from sklearn.linear_model import LogisticRegression

    scale = np.sqrt((a.astype(np.float64) ** 2).mean(0)) + 1e-12
    made: Any = LogisticRegression(solver="newton-cholesky", class_weight="balanced", C=INVERSE_RIDGE, max_iter=50)
    made.fit(a / scale, y)
    weight, bias = made.coef_[0] / scale, float(made.intercept_[0])
    return Probe(weight, bias, best_cut(a @ weight + bias, y))


def best_cut(score: Floats, y: Bools) -> float:
    """The score from which on "yes" gives the largest F1: halfway between the last "yes" and the first "no"."""
    order = np.argsort(-score, kind="stable")
    sorted_score, hits = score[order], np.cumsum(y[order])
    f1 = 2 * hits / (np.arange(1, len(y) + 1) + y.sum())
    last = np.append(sorted_score[1:] != sorted_score[:-1], True)  # equal scores fall on one side together
    best = int(np.argmax(np.where(last, f1, -1.0)))
    return float(sorted_score[best : best + 2].mean())


def f1_of(says: Bools, y: Bools) -> float:
    """2 hits / (yes said + yes true); 0 where nothing is either."""
    return float(2 * (says & y).sum() / max(int(says.sum() + y.sum()), 1))


class Latents:
    """Codes of n rows, ready for many features: f [n, d_sae]."""

    def __init__(self, f: csr_matrix) -> None:
        self.rows: Any = f
        self.columns: Any = csc_matrix(f)
        self.by_latent: Any = csr_matrix(f.T)
        self.squares: Any = self.by_latent.multiply(self.by_latent).tocsr()

    def at(self, latents: list[int]) -> Floats:
        return np.asarray(self.columns[:, latents].toarray(), dtype=np.float64)

    def scores(self, y: Bools, p: Floats) -> Floats:
        """[d_sae]: the score statistic of each latent beside a probe that says p [n]: Σ c (y − p) f over its standard deviation."""
        c = np.where(y, 0.5 / max(y.mean(), 1e-12), 0.5 / max(1 - y.mean(), 1e-12))
        v = c * p * (1 - p)
        spread = self.squares @ v - (self.by_latent @ v) ** 2 / v.sum()
        # a latent that fires on a row or two proves nothing: one row's worth of spread is added
        return (self.by_latent @ (c * (y - p))) / np.sqrt(np.maximum(spread, 0.0) + self._one_row)

    @property
    def _one_row(self) -> Floats:
        n_on = np.maximum(np.diff(self.by_latent.indptr), 1)
        return np.asarray(self.squares.sum(1)).ravel() / n_on + 1e-12


def split_of(
    fit: Latents, y: Bools, other: Latents, y_other: Bools, *, margin: float, most: int, signed: bool = False
) -> Split:
    """How many latents the feature y is split into: chosen and fitted on one set of rows, F1 measured on another.

    A latent must speak for the feature (or, where codes are signed, against it by a negative value).
    """
    chosen: list[int] = []
    found: list[float] = []
    p = np.full(len(y), 0.5)
    while len(chosen) < most:
        z = fit.scores(y, p)
        z = np.abs(z) if signed else z
        z[chosen] = -np.inf
        best = int(np.argmax(z))
        if not z[best] > 0:
            break
        tried = [*chosen, best]
        probe = logistic(fit.at(tried), y)
        found.append(f1_of(probe.says(other.at(tried)), y_other))
        if chosen and found[-1] - found[-2] <= margin:
            break
        chosen = tried
        p = 1 / (1 + np.exp(-np.clip(probe.score(fit.at(chosen)), -30, 30)))
    return Split(chosen, found)


@dataclass(frozen=True)
class Absorbed:
    """Rows where another latent took over, that latent, and the token's strongest other latent as control (-1: none fires)."""

    row: NDArray[np.int64]
    latent: NDArray[np.int64]
    control: NDArray[np.int64]


def absorbed_rows(
    f: Any, eligible: Bools, main: list[int], D: Floats, w: Floats, *, aligned: float, most: float = 0.5
) -> Absorbed:
    """The eligible rows [n] of f [n, d_sae] (CSR) at which all of `main` are silent and one other latent takes over.

    D [d_sae, d]: directions as codes add them; w [d]: the probe's direction. Latent i carries f_i D_i·w. It takes over where its
    cosine with w is at least `aligned` (times the sign of f_i) and it carries more than `most` of all that is carried along w.
    """
    unit = w / max(float(np.linalg.norm(w)), 1e-12)
    along, length = D @ unit, np.maximum(np.linalg.norm(D, axis=1), 1e-12)
    is_main = np.zeros(f.shape[1], dtype=bool)
    is_main[main] = True
    rows: list[int] = []
    latents: list[int] = []
    controls: list[int] = []
    for row in np.flatnonzero(eligible):
        span = slice(f.indptr[row], f.indptr[row + 1])
        on, value = f.indices[span], f.data[span]
        if not len(on) or is_main[on].any():
            continue
        carried = value * along[on]
        best = int(np.argmax(carried))
        if np.sign(value[best]) * along[on[best]] / length[on[best]] < aligned:
            continue
        if carried[best] <= most * np.maximum(carried, 0.0).sum():
            continue
        size = np.abs(value) * length[on]
        size[best] = -1.0
        rows.append(int(row))
        latents.append(int(on[best]))
        controls.append(int(on[np.argmax(size)]) if len(on) > 1 else -1)
    return Absorbed(*(np.array(part, dtype=np.int64) for part in (rows, latents, controls)))
