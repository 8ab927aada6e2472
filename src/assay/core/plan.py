"""What will be compared, decided before anything is tested: which baseline, at which point, on which seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.arms import Arm, Metric, Role
from assay.core.cells import Block
from assay.core.errors import BadInput
from assay.core.gains import count, goodness
from assay.core.outcome import Note
from assay.core.points import Rival, Side, rivals, seeds_in_common, side_at
from assay.core.resampling import FEWEST_UNITS

CHOSEN_ON = "validation"


@dataclass(frozen=True)
class Plan:
    """One comparison to be made on one block."""

    block: Block
    arm: Side
    baseline: Side
    floors: tuple[Side, ...]
    point: float | None
    n_candidates: int

    @property
    def n_units(self) -> int:
        return len(self.block.shared(sorted(self.arm.columns | self.baseline.columns))[1])


def note(block: Block, arm: str, baseline: str, point: float | None, reason: str) -> Note:
    return Note(
        study=block.study,
        task=block.task,
        metric=block.metric,
        split=block.split,
        arm=arm,
        baseline=baseline,
        point=point,
        reason=reason,
    )


def plan_block(
    block: Block, chosen_on: Block | None, arms: Sequence[Arm], metric: Metric, against: Sequence[Role]
) -> tuple[list[Plan], list[Note]]:
    """For each configuration of each method arm: its strongest candidate among the roles `against`, and its floors."""
    methods = {arm.name for arm in arms if arm.role == "method"}
    configurations = dict.fromkeys((cell.arm, cell.label) for cell in block.cells if cell.arm in methods)
    plans: list[Plan] = []
    notes: list[Note] = []
    for name, label in configurations:
        own = {cell.seed: i for i, cell in enumerate(block.cells) if (cell.arm, cell.label) == (name, label)}
        here = _Place(block, chosen_on, arms, metric, name, own)
        plan = here.plan(against)
        notes += here.notes
        if plan is not None:
            plans.append(plan)
    return plans, notes


class _Place:
    """One configuration of one method arm on one block, and who can stand beside it there."""

    def __init__(
        self,
        block: Block,
        chosen_on: Block | None,
        arms: Sequence[Arm],
        metric: Metric,
        name: str,
        own: dict[int, int],  # seed -> column
    ) -> None:
        self.block = block
        self.chosen_on = chosen_on
        self.arms = arms
        self.metric = metric
        self.name = name
        self.own = own
        self.point = _mean_point(block, own.values())
        self.notes: list[Note] = []
        self._point_names = {arm.name: arm.point_name for arm in arms}

    def plan(self, against: Sequence[Role]) -> Plan | None:
        candidates: list[tuple[Side, Side]] = []  # (this arm, the candidate) on the seeds they share
        for rival in self._rivals(against):
            theirs = {cell.seed for cell in self.block.cells if rival.owns(cell)}
            seeds = seeds_in_common(set(self.own), theirs)
            side = self._stand(rival, seeds) if seeds else f"{self.name} and {rival.name} have no seed in common"
            if isinstance(side, str):
                self._note(rival.name, side)
            else:
                candidates.append((Side(self.name, tuple({self._column(seed): 1.0} for seed in seeds)), side))
        if not candidates:
            if not self.notes:
                self._note("", "no verdict: no baseline can be set beside this arm here")
            return None
        arm, baseline = candidates[self._strongest([side for _, side in candidates])]
        point = _mean_point(self.block, arm.columns)
        plan = Plan(self.block, arm, baseline, self._floors(arm, baseline), point, len(candidates))
        if plan.n_units < FEWEST_UNITS:
            shared = count(plan.n_units, self.block.unit_kind)
            self._note(baseline.name, f"{shared} in common; a verdict needs {FEWEST_UNITS} or more")
            return None
        return plan

    def _note(self, rival: str, reason: str) -> None:
        self.notes.append(note(self.block, self.name, rival, self.point, reason))

    def _column(self, seed: int) -> int:
        """The arm's own column of a seed; an arm that no seed changes has one for all."""
        return self.own.get(seed, next(iter(self.own.values())))

    def _rivals(self, roles: Sequence[Role]) -> list[Rival]:
        return rivals(self.block, list(dict.fromkeys(arm.name for arm in self.arms if arm.role in roles)))

    def _stand(self, rival: Rival, seeds: Sequence[int]) -> Side | str:
        """`rival` at this arm's points, on these seeds."""
        mine, theirs = self._point_names[self.name], self._point_names[rival.name]
        if rival.label is None and mine is not None and theirs != mine:
            return f"{rival.name} is known by {theirs}, {self.name} by {mine}"
        points = [self.block.cells[self._column(seed)].point for seed in seeds]
        return side_at(self.block, rival, seeds, points, theirs, self._rank)

    def _rank(self, column: int) -> float:
        """The goodness of one subject on validation, where it was measured."""
        if self.chosen_on is None:
            return -np.inf
        cell = self.block.cells[column]
        key = (cell.arm, cell.label, cell.seed)
        there = [i for i, c in enumerate(self.chosen_on.cells) if (c.arm, c.label, c.seed) == key]
        return float(goodness(self.chosen_on.values[there], self.metric.better)[0]) if there else -np.inf

    def _strongest(self, sides: list[Side]) -> int:
        """The index of the best candidate on validation."""
        if len(sides) == 1:
            return 0
        scores: list[float] = []
        for side in sides:
            there = None if self.chosen_on is None else side.moved(self.block, self.chosen_on)
            if self.chosen_on is None or there is None:
                raise BadInput(
                    f"The best of {len(sides)} baselines is chosen on {CHOSEN_ON}, but {side.name} has no "
                    f"{self.metric.name} there; evaluate on both halves."
                )
            columns = sorted(there.columns)
            values = self.chosen_on.values[columns] @ there.matrix(columns)
            scores.append(float(np.nan_to_num(goodness(values, self.metric.better), nan=-np.inf).mean()))
        return int(np.argmax(scores))

    def _floors(self, arm: Side, baseline: Side) -> tuple[Side, ...]:
        floors: list[Side] = []
        for rival in self._rivals(("floor",)):
            floor = self._stand(rival, _seeds(self.block, arm, baseline))
            if isinstance(floor, str):
                self._note(rival.name, f"the floor could not be checked: {floor}")
            else:
                floors.append(floor)
        return tuple(floors)


def _mean_point(block: Block, columns: Iterable[int]) -> float | None:
    points = [block.cells[column].point for column in columns]
    known = [point for point in points if point is not None]
    return float(np.mean(known)) if known else None


def _seeds(block: Block, arm: Side, baseline: Side) -> list[int]:
    first = {block.cells[column].seed for column in arm.columns}
    return seeds_in_common(first, {block.cells[column].seed for column in baseline.columns})
