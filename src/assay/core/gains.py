"""The paired gain of one side over another, oriented so that more is better, with its interval and p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.arms import Better
from assay.core.intervals import Resampler
from assay.core.points import Side
from assay.core.resampling import FEWEST_UNITS, Floats, Interval, influence, interval, ratios


@dataclass(frozen=True)
class Gain:
    """Means over the seeds; `gain` is the mean of the seeds' own gains, which for "one" need not equal the gain of the
    mean values."""

    arm_value: float
    baseline_value: float
    gain: float
    interval: Interval
    n_units: int
    n_seeds: int


def goodness(values: Floats, better: Better) -> Floats:
    """Values turned so that more is better: v, −v, or −|v − 1|."""
    if better == "higher":
        return values
    return -values if better == "lower" else -np.abs(values - 1)


def slope(values: Floats, better: Better) -> Floats:
    """The derivative of `goodness`."""
    if better == "higher":
        return np.ones_like(values)
    return -np.ones_like(values) if better == "lower" else -np.sign(values - 1)


def paired_gain(resampler: Resampler, arm: Side, baseline: Side, better: Better, level: float) -> Gain | str:
    """The gain of `arm` over `baseline` on the units both have, or the reason why there is none.

    Both sides are computed in the same resamples, seed by seed, so what they share cancels.
    """
    block = resampler.block
    columns = sorted(arm.columns | baseline.columns)
    mask, num, den = block.shared(columns)
    n = len(num)
    if n < FEWEST_UNITS:
        return f"{count(n, block.unit_kind)} in common; a verdict needs {FEWEST_UNITS} or more"
    values = ratios(num, den)
    if not np.isfinite(values).all():
        return "the denominators of one side sum to 0"
    first, second = arm.matrix(columns), baseline.matrix(columns)
    a, b = values @ first, values @ second
    gains = goodness(a, better) - goodness(b, better)
    draws = resampler.draws(mask, columns)
    drawn = None if draws is None else goodness(draws @ first, better) - goodness(draws @ second, better)
    effects = influence(num, den)
    effect = effects @ first * slope(a, better) - effects @ second * slope(b, better)
    found = interval(gains, drawn, effect, level=level, seed_weights=resampler.seed_weights)
    if found is None:
        return "in some resample the denominators sum to 0"
    n_seeds = n if block.unit_kind == "seed" else len(arm.mixes)
    return Gain(float(a.mean()), float(b.mean()), float(gains.mean()), found, n, n_seeds)


def count(n: int, kind: str) -> str:
    """As in "1 document", "300 documents"."""
    return f"{n} {kind}" + ("" if n == 1 else "s")


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: sorted ascending, (m − i) p_(i), made monotone, at most 1; in the given order."""
    corrected = [0.0] * len(p)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = running
    return corrected
