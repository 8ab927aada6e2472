"""stub: final signatures, body follows"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from assay.core.outcome import Arm, Cost, Metric, Note, Units, Verdict


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: the verdicts, and notes on comparisons that were not made."""

    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    notes: list[Note] = field(default_factory=list[Note])


def compare(
    units: Units,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    costs: Sequence[Cost],
    *,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
    rivals: tuple[str, ...] = ("baseline",),
    nouns: tuple[str, str] = ("dictionaries", "architectures"),
) -> Comparison:
    raise NotImplementedError
