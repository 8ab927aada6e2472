"""From a long table of units to blocks: per task, metric and split, a matrix of sums [unit, cell].

A cell is one subject (arm, configuration, seed). Rows of one unit and cell are added, so a document measured in several
batches counts once and values do not depend on how the data were cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core.arms import SEEDLESS, Arm
from assay.core.errors import BadInput
from assay.core.resampling import Floats, ratios
from assay.core.units import Units


@dataclass(frozen=True)
class Cell:
    """One column of a block. `subject` joins several hashes with commas where units are seeds."""

    arm: str
    label: str
    seed: int
    subject: str
    point: float | None


@dataclass(frozen=True)
class Block:
    """All sums of one metric on one task and split; units are sorted by name, so row order never matters."""

    study: str
    task: str
    metric: str
    split: str
    unit_kind: Any
    units: list[str]
    cells: list[Cell]
    num: Floats  # [n_units, n_cells]
    den: Floats
    n_obs: NDArray[np.int64]
    present: NDArray[np.bool_]

    @cached_property
    def values(self) -> Floats:
        """Σnum / Σden per cell over its own units; NaN where the denominators sum to 0."""
        return ratios(self.num, self.den)


def declared(arms: Sequence[Arm]) -> dict[tuple[str, int, str], Arm]:
    """Arms by (name, seed, subject). Raises when two declare the same subject, or one name has two roles."""
    found: dict[tuple[str, int, str], Arm] = {}
    roles: dict[str, str] = {}
    configurations: dict[tuple[str, int, str], str] = {}
    for arm in arms:
        key = (arm.name, arm.seed, arm.subject)
        if key in found:
            raise BadInput(f"Arm {arm.name} declares subject {arm.subject or '(none)'} with seed {arm.seed} twice.")
        if roles.setdefault(arm.name, arm.role) != arm.role:
            raise BadInput(f"Arm {arm.name} is declared as {roles[arm.name]} and as {arm.role}; give it one role.")
        other = configurations.setdefault((arm.name, arm.seed, arm.label), arm.subject)
        if other != arm.subject:
            raise BadInput(
                f"Arm {arm.name}, seed {arm.seed}: subjects {other} and {arm.subject} have the same configuration "
                f"{arm.label}; give them options or labels that tell them apart."
            )
        found[key] = arm
    return found


def blocks(units: Units, arms: Sequence[Arm]) -> list[Block]:
    """Cut the table into blocks, in the order of (study, task, metric, split)."""
    known = declared(arms)
    text = {name: units.codes(name) for name in ("study", "task", "metric", "split", "arm", "subject", "unit")}
    kinds, kind_names = units.codes("unit_kind")
    numbers = {name: units[name] for name in ("seed", "point", "num", "den", "n_obs")}
    names = ("study", "task", "metric", "split")
    keys = np.stack([text[name][0] for name in names], axis=1)
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which.ravel(), minlength=len(distinct)))
    made: list[Block] = []
    for key, rows in zip(distinct, np.split(order, ends[:-1])):
        study, task, metric, split = (text[name][1][code] for name, code in zip(names, key))
        kind = np.unique(kinds[rows])
        if len(kind) > 1:
            raise BadInput(f"Metric {metric} of task {task} mixes units of several kinds; use one kind of unit.")
        unit_kind = kind_names[kind[0]]
        cells, cell_of = _cells(text, numbers, rows, known, by_seed=unit_kind == "seed")
        codes, row_unit = np.unique(text["unit"][0][rows], return_inverse=True)
        unit_names = [text["unit"][1][code] for code in codes]
        rank = np.argsort(np.argsort(unit_names, kind="stable"), kind="stable")
        shape = (len(codes), len(cells))
        flat = rank[row_unit.ravel()] * shape[1] + cell_of

        def total(name: str, flat: NDArray[np.int64] = flat, rows: Any = rows, shape: Any = shape) -> Floats:
            return np.bincount(flat, weights=numbers[name][rows], minlength=shape[0] * shape[1]).reshape(shape)

        present = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape) > 0
        made.append(
            Block(
                study, task, metric, split, unit_kind, sorted(unit_names), cells,
                total("num"), total("den"), total("n_obs").astype(np.int64), present,
            )  # fmt: skip
        )
    return sorted(made, key=lambda block: (block.study, block.task, block.metric, block.split))


def _cells(
    text: dict[str, tuple[NDArray[np.int64], list[str]]],
    numbers: dict[str, NDArray[Any]],
    rows: NDArray[np.int64],
    known: dict[tuple[str, int, str], Arm],
    *,
    by_seed: bool,
) -> tuple[list[Cell], NDArray[np.int64]]:
    """The cells among `rows` (sorted), and each row's cell. Where units are seeds, subjects of one configuration are one
    cell, whose point is their mean."""
    keys = np.stack([text["arm"][0][rows], numbers["seed"][rows], text["subject"][0][rows]], axis=1)
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.ravel()
    points = numbers["point"][rows]
    groups: dict[tuple[str, str, int], list[tuple[str, float]]] = {}
    owner: list[tuple[str, str, int]] = []
    for i, (arm_code, seed, subject_code) in enumerate(distinct):
        name, subject = text["arm"][1][arm_code], text["subject"][1][subject_code]
        arm = known.get((name, int(seed), subject))
        if arm is None:
            raise BadInput(f"Units hold arm {name}, seed {seed}, subject {subject or '(none)'}; no Arm declares it.")
        own = np.unique(points[which == i])
        if len(own) > 1:
            raise BadInput(f"Arm {name}, subject {subject or '(none)'}, has units at points {own[0]} and {own[1]}.")
        if np.isnan(own[0]) != (arm.point_name is None):
            state = "a point_name but no point" if np.isnan(own[0]) else "points but no point_name"
            raise BadInput(f"Arm {name}, subject {subject or '(none)'}, has {state}; give both or neither.")
        key = (name, arm.label, SEEDLESS if by_seed else int(seed))
        groups.setdefault(key, []).append((subject, float(own[0])))
        owner.append(key)
    ordered = sorted(groups, key=lambda key: (key[0], np.nan_to_num(np.mean([p for _, p in groups[key]])), *key[1:]))
    cells: list[Cell] = []
    for key in ordered:
        point = float(np.mean([p for _, p in groups[key]]))
        subject = ",".join(sorted({s for s, _ in groups[key]}))
        cells.append(Cell(*key, subject, None if np.isnan(point) else point))
    index = np.array([ordered.index(key) for key in owner], dtype=np.int64)
    return cells, index[which]
