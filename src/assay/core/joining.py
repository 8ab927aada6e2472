"""Joining results: what several of them state identically is kept once; contradictions are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import BadInput
from assay.core.record import canonical, kinds, to_rows
from assay.core.units import Unit, Units

T = TypeVar("T")


class HasId(Protocol):
    @property
    def id(self) -> str: ...


C = TypeVar("C", bound=HasId)


def join_units(tables: Sequence[Units]) -> Units:
    """One table. A unit that several tables measured for one subject is kept from the first, so that it counts once.

    Raises `BadInput` when two tables disagree about its sums by more than 1e-6 of their size.
    """
    whole = Units.concat(tables)
    if not len(whole) or len(tables) < 2:
        return whole
    keys = [name for name in kinds(Unit) if name not in ("num", "den", "n_obs", "point")]
    frame: Any = whole.to_pandas()
    groups: NDArray[np.int64] = frame.groupby(keys, sort=False).ngroup().to_numpy()
    part = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    first = np.full(int(groups.max()) + 1, len(tables))
    np.minimum.at(first, groups, part)
    later = part > first[groups]
    place = groups * len(tables) + part
    for name in ("num", "den"):
        totals: Any = np.bincount(place, weights=whole[name], minlength=len(first) * len(tables))
        there = totals[groups * len(tables) + first[groups]]
        differ = later & ~np.isclose(totals[place], there, rtol=1e-6, atol=0)
        if differ.any():
            row: dict[str, Any] = whole.plain().slice(int(np.argmax(differ)), 1).to_pylist()[0]
            raise BadInput(
                f"Two results disagree about {row['metric']} of arm {row['arm']} ({row['subject'] or 'no subject'}) "
                f"on {row['unit_kind']} {row['unit']}; join results of different runs under different study names."
            )
    return whole.keep(~later)


def join_records(several: Sequence[Sequence[T]]) -> list[T]:
    """All records in order, equal ones once."""
    records = [record for part in several for record in part]
    seen: dict[str, T] = {}
    for record in records:
        seen.setdefault(canonical([type(record).__name__, to_rows(type(record), [record])]), record)
    return list(seen.values())


def join_costs(several: Sequence[Sequence[C]]) -> list[C]:
    """Costs by id, the first of each (seconds per use vary between measurements).

    Raises `BadInput` when one id has two different upfront costs.
    """
    kept: dict[str, C] = {}
    for cost in join_records(several):
        fields = [name for name in kinds(type(cost)) if name.startswith("upfront") or name == "params_trained"]
        other = kept.setdefault(cost.id, cost)
        if any(getattr(cost, field) != getattr(other, field) for field in fields):
            raise BadInput(f'Two results give cost "{cost.id}" different upfront costs; give each its own id.')
    return list(kept.values())
