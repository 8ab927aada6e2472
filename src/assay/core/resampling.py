"""Intervals and p-values of ratios of sums, by resampling units and seeds. Nothing here knows arms or metrics.

*Units* (documents, tasks, ...): bootstrap. In each resample the units are drawn with replacement and θ* = Σnum/Σden is
computed anew; quantities that share a resample are paired. The interval is the percentile interval with its tails
moved from the normal to Student's t with n−1 degrees of freedom and from 1/n to 1/(n−1), without which it is too narrow
for few units (Hesterberg 2015, "expanded percentile"). The p-value inverts that interval: 1 − p is the level at which
it would just touch 0, with the +1 correction for the finite number of resamples; nothing is centred.

*Under 20 units*: t on the linearised ratio, ψ_i = θ + n (num_i − θ den_i) / Σden, whose mean is θ itself: the same
quantity as the bootstrap's, not the mean of the units' own ratios. *Under 5*: nothing.

*Seeds and units*: in each resample seeds are drawn with replacement too (their deviations enlarged by √(S/(S−1))).
Percentiles of three seeds cannot reach beyond the three and miss the truth one time in four, so the interval is
θ ± t·se with the resamples' standard error, and Satterthwaite's degrees of freedom of its parts: S−1 for seeds, n−1
for units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay.core.untyped import special

Floats = NDArray[np.float64]

FEWEST_UNITS = 5
"""Fewer units give no interval and no verdict."""
FEWEST_FOR_BOOTSTRAP = 20
FEWEST_SEEDS = 3
"""From so many seeds on, a statement is about architectures; with fewer, about these dictionaries."""

CHUNK = 1 << 20  # resample weights held at once (8 MiB)


@dataclass(frozen=True)
class Interval:
    lo: float
    hi: float
    p: float  # two-sided, of the hypothesis that the quantity is 0
    how: Literal["bootstrap", "t"]
    over_seeds: bool


def ratios(num: Floats, den: Floats) -> Floats:
    """Σnum / Σden over the first axis; NaN where Σden is 0."""
    total: Floats = den.sum(axis=0)
    empty: Floats = np.full(total.shape, np.nan)
    return np.divide(num.sum(axis=0), total, out=empty, where=total != 0)


def resampled_ratios(num: Floats, den: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """θ* of every column in every resample of the rows. num, den [n, k] -> [resamples, k]; NaN where Σden* is 0.

    One set of multinomial weights serves all columns, so columns are paired. Memory: about 30 MiB beside the result.
    """
    n, k = num.shape
    both = np.ascontiguousarray(np.concatenate([num, den], axis=1))
    values = np.empty((resamples, k))
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        m = min(step, resamples - start)
        drawn = rng.integers(0, n, size=(m, n)) + np.arange(m)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=m * n).reshape(m, n).astype(np.float64)
        sums = weights @ both
        top, bottom = sums[:, :k], sums[:, k:]
        values[start : start + m] = np.divide(top, bottom, out=np.full((m, k), np.nan), where=bottom != 0)
    return values


def influence(num: Floats, den: Floats) -> Floats:
    """n (num_i − θ den_i) / Σden, the effect of each unit on the ratio; each column has mean 0. [n, k]"""
    return len(num) * (num - ratios(num, den) * den) / den.sum(axis=0)


def percentile_interval(draws: Floats, n: int, level: float) -> tuple[float, float]:
    """The expanded percentile interval of resampled values [resamples] over n units."""
    tail = float(special.ndtr(special.stdtrit(n - 1, (1 - level) / 2) * np.sqrt(n / (n - 1))))
    lo, hi = np.quantile(draws, [tail, 1 - tail])
    return float(lo), float(hi)


def percentile_p(draws: Floats, n: int) -> float:
    """Two-sided p of 0: 1 − the level of the expanded percentile interval that just touches 0."""
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    tail = (beyond + 1) / (len(draws) + 1)
    if tail >= 0.5:
        return 1.0
    return float(2 * special.stdtr(n - 1, special.ndtri(tail) * np.sqrt((n - 1) / n)))


def resamples_needed(n: int, tests: int, alpha: float, least: int, most: int = 100_000) -> int:
    """How many resamples let the smallest attainable p pass Holm's first step among `tests`: at least `least`.

    10,000 serve 100 units in a family of some 40; fewer units and larger families need more (few units are cheap).
    """
    tail = float(special.ndtr(special.stdtrit(n - 1, alpha / tests / 2) * np.sqrt(n / (n - 1))))
    return int(min(max(least, np.ceil(4 / max(tail, 1e-12))), max(most, least)))


def student(value: float, variance: float, freedom: float, level: float) -> tuple[float, float, float]:
    """(lo, hi, p) of value ± t √variance."""
    if variance <= 0:
        return value, value, 1.0 if value == 0 else 0.0
    error = float(np.sqrt(variance))
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    return value - half, value + half, float(2 * special.stdtr(freedom, -abs(value) / error))


def interval(
    values: Floats,
    draws: Floats | None,
    effect: Floats,
    *,
    level: float,
    seed_weights: Callable[[int], Floats],
) -> Interval | None:
    """The interval of the mean of `values` [n_seeds], from resamples `draws` [resamples, n_seeds] (None: use t) and the
    effects of the units `effect` [n, n_seeds] (mean 0). `seed_weights(n_seeds)` gives what `reseeded` returns.

    With three seeds or more it covers new seeds and new units, else new units only. None when it cannot be had: under 5
    units, or a resample whose denominators sum to 0.
    """
    n, n_seeds = effect.shape
    if n < FEWEST_UNITS or not np.isfinite(values).all() or not np.isfinite(effect).all():
        return None
    if draws is not None and not np.isfinite(draws).all():
        return None
    value, over_seeds = float(values.mean()), n_seeds >= FEWEST_SEEDS
    how: Literal["bootstrap", "t"] = "t" if draws is None else "bootstrap"
    of_units = float(effect.mean(axis=1).var(ddof=1)) / n
    if not over_seeds:
        if draws is None:
            return Interval(*student(value, of_units, n - 1, level), how, over_seeds)
        pooled = draws.mean(axis=1)
        return Interval(*percentile_interval(pooled, n, level), percentile_p(pooled, n), how, over_seeds)
    of_seeds = float(values.var(ddof=1)) / n_seeds
    variance = of_units + of_seeds
    if draws is not None:
        of_units = float(draws.mean(axis=1).var(ddof=1)) * n / (n - 1)
        variance = float((draws * seed_weights(n_seeds)).mean(axis=1).var(ddof=1)) + of_units / n
    parts = of_seeds**2 / (n_seeds - 1) + of_units**2 / (n - 1)
    freedom = (of_seeds + of_units) ** 2 / parts if parts > 0 else n_seeds - 1.0
    return Interval(*student(value, variance, freedom, level), how, over_seeds)


def reseeded(n_seeds: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Weights of seeds drawn with replacement in each resample, mean 1, deviations enlarged. [resamples, n_seeds]"""
    counts: NDArray[np.int64] = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=resamples)
    return 1 + (counts - 1) * np.sqrt(n_seeds / (n_seeds - 1))
