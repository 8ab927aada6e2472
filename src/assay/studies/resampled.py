"""Quantities that combine several dictionaries (a share of a gain, a gap), with an interval over documents and seeds.

Every dictionary's metric is computed in the same resamples of documents, so what they share cancels; row 0 of every array is the value
as measured. From three seeds on, seeds are drawn anew too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.outcome import Results
from assay.core.randomness import numpy_rng
from assay.core.resampling import FEWEST_SEEDS

Curve = list[tuple[float, np.ndarray]]
"""(L0, values [1 + resamples]) of the dictionaries of one arm and seed, by L0."""


@dataclass(frozen=True)
class Estimate:
    value: float
    lo: float
    hi: float
    n_seeds: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.lo:.2f}, {self.hi:.2f}]"


class Resampled:
    """One metric of a study's results off the validation split, in resamples of its documents."""

    def __init__(self, results: Results, metric: str, *, seed: int, resamples: int, use: str) -> None:
        units = results.units.where(metric=metric)
        self.units = units.keep(units["split"] != "validation")
        self.documents = sorted(set(self.units["unit"]))
        self.rng = numpy_rng(seed, use)
        n = len(self.documents)
        drawn = self.rng.multinomial(n, np.full(n, 1 / n), resamples) if n else np.zeros((resamples, 0))
        self.weight = np.vstack([np.ones(n), drawn.astype(float)])  # row 0: as measured

    def seeds(self, *arms: str) -> list[int]:
        """The seeds that all these arms have."""
        return sorted(set.intersection(*({int(s) for s in self.units.where(arm=arm)["seed"]} for arm in arms)))

    def curve(self, arm: str, seed: int) -> Curve:
        place = {name: i for i, name in enumerate(self.documents)}
        mine = self.units.where(arm=arm, seed=seed)
        found: Curve = []
        for subject in dict.fromkeys(mine["subject"]):
            rows = mine.where(subject=str(subject))
            num, den = np.zeros(len(place)), np.zeros(len(place))
            index = [place[name] for name in rows["unit"]]
            num[index], den[index] = rows["num"], rows["den"]
            found.append((float(rows["point"][0]), (self.weight @ num) / (self.weight @ den)))
        return sorted(found, key=lambda pair: pair[0])

    def estimate(self, by_seed: Sequence[np.ndarray], level: float = 0.95) -> Estimate:
        """The mean over seeds [seeds, 1 + resamples] with its percentile interval."""
        values = np.array(by_seed)
        drawn = values[:, 1:].mean(0)
        if len(values) >= FEWEST_SEEDS:
            pick = self.rng.integers(0, len(values), (len(values), values.shape[1] - 1))
            drawn = np.take_along_axis(values[:, 1:], pick, 0).mean(0)
        lo, hi = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return Estimate(float(values[:, 0].mean()), float(lo), float(hi), len(values))


def interpolated(curve: Curve, l0: float) -> np.ndarray | None:
    """The curve at `l0`, linear in log L0 between its two neighbours there; None outside it."""
    below = [pair for pair in curve if 0 < pair[0] <= l0]
    above = [pair for pair in curve if pair[0] >= l0]
    if not below or not above:
        return None
    (a, low), (b, high) = below[-1], above[0]
    part = 0.0 if a == b else math.log(l0 / a) / math.log(b / a)
    return (1 - part) * low + part * high
