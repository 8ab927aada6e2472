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
from assay.core.units import UnitKind, Units


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
    unit_kind: UnitKind
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

    def shared(self, columns: Sequence[int]) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """The units that all these cells have (a mask), and their num and den [n_shared, columns]."""
        mask: NDArray[np.bool_] = np.all(self.present[:, columns], axis=1)
        return mask, self.num[mask][:, columns], self.den[mask][:, columns]


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
    columns = _Columns(units)
    names = ("study", "task", "metric", "split")
    distinct, which = _distinct([columns.codes[name] for name in names])
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which, minlength=len(distinct)))
    made: list[Block] = []
    for key, rows in zip(distinct, np.split(order, ends[:-1])):
        study, task, metric, split = (columns.texts[name][code] for name, code in zip(names, key))
        kinds: list[Any] = [
            columns.texts["unit_kind"][code] for code in np.unique(columns.codes["unit_kind"][rows]).tolist()
        ]
        if len(kinds) > 1:
            raise BadInput(
                f"Metric {metric} of task {task} mixes units of the kinds {' and '.join(kinds)}; use one kind."
            )
        cells, cell_of = _cells(columns, rows, known, by_seed=kinds[0] == "seed")
        codes, unit_of = np.unique(columns.codes["unit"][rows], return_inverse=True)
        units_here: list[str] = [columns.texts["unit"][code] for code in codes.tolist()]
        rank = np.empty(len(codes), np.int64)
        rank[np.argsort(units_here, kind="stable")] = np.arange(len(codes))
        flat = rank[unit_of.ravel()] * len(cells) + cell_of
        sums = {
            name: _sums(flat, columns.numbers[name][rows], len(codes), len(cells)) for name in ("num", "den", "n_obs")
        }
        made.append(
            Block(
                study=study,
                task=task,
                metric=metric,
                split=split,
                unit_kind=kinds[0],
                units=sorted(units_here),
                cells=cells,
                num=sums["num"],
                den=sums["den"],
                n_obs=sums["n_obs"].astype(np.int64),
                present=_sums(flat, np.ones(len(rows)), len(codes), len(cells)) > 0,
            )
        )
    return sorted(made, key=lambda block: (block.study, block.task, block.metric, block.split))


class _Columns:
    """The columns of a table, texts as codes."""

    def __init__(self, units: Units) -> None:
        self.codes: dict[str, NDArray[np.int64]] = {}
        self.texts: dict[str, list[str]] = {}
        for name in ("study", "task", "metric", "split", "arm", "subject", "unit", "unit_kind"):
            self.codes[name], self.texts[name] = units.codes(name)
        self.numbers: dict[str, NDArray[Any]] = {name: units[name] for name in ("seed", "point", "num", "den", "n_obs")}


def _distinct(columns: list[NDArray[np.int64]]) -> tuple[list[list[int]], NDArray[np.int64]]:
    """The distinct rows of several integer columns, and which of them each row is."""
    found: list[NDArray[np.int64]] = []
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        found.append(values)
        key = key * len(values) + place.ravel()
    keys, which = np.unique(key, return_inverse=True)
    parts: list[NDArray[np.int64]] = []
    for values in reversed(found):
        parts.append(values[keys % len(values)])
        keys = keys // len(values)
    rows: list[list[int]] = np.stack(parts[::-1], axis=1).tolist()
    return rows, which.ravel()


def _sums(flat: NDArray[np.int64], values: NDArray[Any], n_units: int, n_cells: int) -> Floats:
    """Rows of equal place added up. [n_units, n_cells]"""
    total: Any = np.bincount(flat, weights=values, minlength=n_units * n_cells)
    return total.reshape(n_units, n_cells)


def _cells(
    columns: _Columns,
    rows: NDArray[np.int64],
    known: dict[tuple[str, int, str], Arm],
    *,
    by_seed: bool,
) -> tuple[list[Cell], NDArray[np.int64]]:
    """The cells among `rows` (sorted), and each row's cell.

    Where units are seeds, all subjects of one configuration are one cell, whose point is their mean.
    """
    keys = [columns.codes["arm"][rows], columns.numbers["seed"][rows], columns.codes["subject"][rows]]
    distinct, which = _distinct(keys)
    points = columns.numbers["point"][rows]
    groups: dict[tuple[str, str, int], list[tuple[str, float]]] = {}
    owner: list[tuple[str, str, int]] = []
    for i, (arm_code, seed, subject_code) in enumerate(distinct):
        name, subject = columns.texts["arm"][arm_code], columns.texts["subject"][subject_code]
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
