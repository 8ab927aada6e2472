"""Matched points: an arm at some L0 stands against a rival at the same L0, interpolated between the rival's neighbours.

Within each seed the rival's curve is that seed's own points, and the place on it is the arm's own L0 of that seed. The
metric is linear in log L0 between two neighbours; nothing is ever extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.arms import SEEDLESS
from assay.core.cells import Block, Cell
from assay.core.resampling import Floats

Mix = dict[int, float]
"""Columns of a block and their weights: the value at a point is Σ weight · value(column)."""


@dataclass(frozen=True)
class Rival:
    """A name, and for arms without points one configuration of it."""

    name: str
    label: str | None

    def owns(self, cell: Cell) -> bool:
        return cell.arm == self.name and (cell.point is not None if self.label is None else cell.label == self.label)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: for each seed in turn, a mix of the columns of its block."""

    name: str
    mixes: tuple[Mix, ...]

    @property
    def columns(self) -> set[int]:
        return {column for mix in self.mixes for column in mix}

    @property
    def main_column(self) -> int:
        """The subject that stands for this side's cost: the nearest point, in the first seed."""
        return max(self.mixes[0], key=lambda column: self.mixes[0][column])

    @property
    def interpolated(self) -> bool:
        return any(len(mix) > 1 for mix in self.mixes)

    def matrix(self, columns: Sequence[int]) -> Floats:
        """Weights [columns, seeds]: values [..., columns] @ matrix are this side's values per seed."""
        return np.array([[mix.get(column, 0.0) for mix in self.mixes] for column in columns])

    def moved(self, here: Block, there: Block) -> Side | None:
        """The same mixes of the same subjects on another split; None when one was not measured there."""
        place = {(cell.arm, cell.label, cell.seed): column for column, cell in enumerate(there.cells)}
        mixes: list[Mix] = []
        for mix in self.mixes:
            keys = {(c.arm, c.label, c.seed): weight for column, weight in mix.items() for c in [here.cells[column]]}
            if not keys.keys() <= place.keys():
                return None
            mixes.append({place[key]: weight for key, weight in keys.items()})
        return Side(self.name, tuple(mixes))


def rivals(block: Block, names: Sequence[str]) -> list[Rival]:
    """The curves of these arms, and each configuration of those without points, in the order of the names."""
    cells = [cell for name in names for cell in block.cells if cell.arm == name]
    return list(dict.fromkeys(Rival(cell.arm, None if cell.point is not None else cell.label) for cell in cells))


def seeds_in_common(first: set[int], second: set[int]) -> list[int]:
    """The seeds on which two sides can be paired; a side that no seed changes stands beside all of the other's."""
    if first == {SEEDLESS}:
        return sorted(second)
    if second == {SEEDLESS}:
        return sorted(first)
    return sorted(first & second)


def mix_at(curve: Sequence[tuple[float, int]], point: float, name: str, point_name: str) -> Mix | str:
    """The weights of a curve's points [(point, column)] at `point`, or the reason why there are none."""
    shown = point_name.upper() if point_name == "l0" else point_name
    same = [column for at, column in curve if math.isclose(at, point, rel_tol=1e-9)]
    if same:
        return {same[0]: 1.0}
    below = max(((at, column) for at, column in curve if at < point), default=None)
    above = min(((at, column) for at, column in curve if at > point), default=None)
    if below is None or above is None:
        span = f"{min(curve)[0]:.4g} to {max(curve)[0]:.4g}" if len(curve) > 1 else f"{curve[0][0]:.4g} alone"
        return f"{shown} {point:.4g} lies outside what {name} covers ({span}); nothing is extrapolated"
    if below[0] <= 0:
        return f"{name} can not be interpolated from {shown} {below[0]:.4g}, which has no logarithm"
    weight = math.log(point / below[0]) / math.log(above[0] / below[0])
    return {below[1]: 1 - weight, above[1]: weight}


def side_at(
    block: Block,
    rival: Rival,
    seeds: Sequence[int],
    points: Sequence[float | None],
    point_name: str | None,
    rank: Callable[[int], float],
) -> Side | str:
    """The rival at the arm's point of each seed, or the reason why it cannot be had.

    Of two configurations at exactly the same point the better by `rank` (of a column) is used.
    """
    mixes: list[Mix] = []
    for seed, point in zip(seeds, points):
        own = [(i, cell) for i, cell in enumerate(block.cells) if rival.owns(cell) and cell.seed in (seed, SEEDLESS)]
        if not own:
            return f"{rival.name} has no seed {seed}"
        if rival.label is not None:
            mixes.append({own[0][0]: 1.0})
            continue
        if point is None or point_name is None:
            return f"{rival.name} is known at points only, and the arm has none"
        curve = sorted(((cell.point or 0.0, column) for column, cell in own), key=lambda at: (at[0], -rank(at[1])))
        distinct = [
            at for i, at in enumerate(curve) if i == 0 or not math.isclose(at[0], curve[i - 1][0], rel_tol=1e-9)
        ]
        mix = mix_at(distinct, point, rival.name, point_name)
        if isinstance(mix, str):
            return mix
        mixes.append(mix)
    return Side(rival.name, tuple(mixes))
