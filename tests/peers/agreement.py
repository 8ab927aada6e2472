"""Reading two trainings the same way, and when they agree.

The margins are those within which this project calls two arms tied (FVU .005, gamma .02), and 2 % of L0. They are wider than what
seeds do to a paired difference of equal trainings, and far narrower than what half the penalty does: `no_straw_man.py` prints all three.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from assay.metrics.fidelity import fvu
from assay.metrics.ratio import pooled
from assay.metrics.shrinkage import relative_reconstruction_bias
from assay.metrics.sparsity import l0_terms

METRICS = ("l0", "fvu", "gamma")
L0_SHARE, FVU, GAMMA = 0.02, 0.005, 0.02


def reading(x: Tensor, x_hat: Tensor, row: Tensor, value: Tensor) -> dict[str, float]:
    """L0, FVU and gamma of x_hat [n, d] and its codes (the row and value of each), by assay's metrics."""
    return {
        "l0": pooled(l0_terms(row, value, len(x))),
        "fvu": fvu(x, x_hat),
        "gamma": relative_reconstruction_bias(x, x_hat),
    }


@dataclass(frozen=True)
class Difference:
    """Ours less theirs, paired by seed: mean and 95 % t interval; the margin; the standard deviation between theirs' seeds."""

    mean: float
    lo: float
    hi: float
    margin: float
    seeds_sd: float

    @property
    def agrees(self) -> bool:
        """Whether the whole interval lies inside the margin: shown to be equal, not merely not shown to differ."""
        return -self.margin <= self.lo and self.hi <= self.margin


def difference(metric: str, ours: list[float], theirs: list[float]) -> Difference:
    """Compare the values of the same seeds, two or more."""
    mine, yours = torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)
    apart, n = mine - yours, len(ours)
    half = float(student.ppf(0.975, n - 1)) * float(apart.std()) / n**0.5
    margin = {"l0": L0_SHARE * float(yours.mean()), "fvu": FVU, "gamma": GAMMA}[metric]
    mean = float(apart.mean())
    return Difference(mean, mean - half, mean + half, margin, float(yours.std()))


def apart(ours: Tensor, theirs: Tensor, n_steps: int | None = None) -> float:
    """The largest relative difference of two loss traces of one length, over their first n steps."""
    mine, yours = ours[:n_steps], theirs[:n_steps]
    assert mine.shape == yours.shape
    return float(((mine - yours) / yours).abs().max())
