"""The line that every report carries: on permuted labels the validation AUC of every arm is .5, or something leaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ALLOWED = 4.0  # standard errors from .5


@dataclass(frozen=True)
class Line:
    """One arm: mean over n fits on permuted labels, its standard error, and whether it is within ALLOWED of .5."""

    arm: str
    mean: float
    error: float
    n: int

    @property
    def honest(self) -> bool:
        return abs(self.mean - 0.5) <= ALLOWED * self.error + 1e-12

    @property
    def sentence(self) -> str:
        far = abs(self.mean - 0.5) / self.error if self.error > 0 else 0.0
        said = f"{self.arm}: {self.mean:.3f} ± {self.error:.3f} over {self.n} permuted fits"
        return said if self.honest else f"{said}, {far:.1f} standard errors from .5: labels leak into its validation"


def lines(permuted: Iterable[Mapping[str, Sequence[float]]]) -> list[Line]:
    """One line an arm, pooled over tasks and permutations. Values of one permutation (several k) are averaged first."""
    pooled: dict[str, list[float]] = {}
    for task in permuted:
        for arm, values in task.items():
            pooled.setdefault(arm, []).extend(values)
    made: list[Line] = []
    for arm, values in pooled.items():
        found = np.asarray(values, dtype=np.float64)
        error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else 0.0
        made.append(Line(arm, float(found.mean()), error, len(found)))
    return made
