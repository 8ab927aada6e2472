"""What a study declares before it measures: its arms, and its metrics with their direction and margin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from assay.core.errors import BadInput
from assay.core.record import canonical, check

Role = Literal["method", "baseline", "control", "floor"]
Better = Literal["higher", "lower", "one", "none"]

SEEDLESS = -1
"""The seed of an arm that no seed changes (raw coordinates, PCA, a constant): it stands beside every seed."""

MARGINS = {"fvu": 0.005, "loss_recovered": 0.005, "auc": 0.005, "gamma": 0.02}
"""Gains smaller than this are ties (DESIGN §2); also for names that continue one of these, as loss_recovered_zero."""

TITLES = {"fvu": "FVU", "gamma": "γ", "l0": "L0", "auc": "AUC", "mcc": "MCC", "f1": "F1"}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One subject (a trained dictionary, a fitted probe) standing in one arm of a study.

    Several subjects share a `name` when they are points of one curve (sparsities) or seeds of one configuration.
    Subjects of one name with the same `label` are the same configuration under different seeds; the default label is
    the options without their seed, so that a measured sparsity may differ a little between the seeds.
    """

    name: str
    role: Role
    cost: str  # id of a Cost
    subject: str = ""  # hash of the artefact
    seed: int = 0  # or SEEDLESS
    point_name: str | None = None  # "l0": the points of this arm are compared at equal L0
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    def __post_init__(self) -> None:
        check(self)
        if not self.name:
            raise BadInput("An arm has an empty name; give it one.")
        if not self.label:
            plain = {key: value for key, value in self.options.items() if key != "seed"}
            object.__setattr__(self, "label", canonical(plain))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, the direction in which it is better, and the margin inside which two arms tie.

    `why_null` says why it does not apply here (no language model, no planted truth): its outcomes are null with that
    reason. A margin of 0 (a metric of no known margin) lets only identical arms tie.
    """

    name: str
    better: Better
    margin: float | None = None
    title: str = ""
    why_null: str | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.margin is None:
            known = next((m for base, m in MARGINS.items() if f"{self.name}_".startswith(f"{base}_")), 0.0)
            object.__setattr__(self, "margin", known)
        if self.margin is not None and self.margin < 0:
            raise BadInput(f"Metric.margin of {self.name} is {self.margin}; it must be 0 or more.")
        if not self.title:
            words = self.name.split("_")
            object.__setattr__(self, "title", " ".join([TITLES.get(words[0], words[0]), *words[1:]]))
