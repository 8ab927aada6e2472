"""`Unit`: sums per independent unit, from which every value and interval is computed; `Units`: many, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.core.errors import BadInput, nearest
from assay.core.record import arrow_schema, check, kinds, require_split, to_rows, wrong
from assay.core.untyped import compute, pa

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

UnitKind = Literal["document", "task", "seed", "latent", "item"]
Texts = str | Sequence[str] | NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one independent unit contributes to one metric of one subject; value = Σnum / Σden over the units.

    FVU: ‖x−x̂‖², ‖x−x̄‖² · loss recovered: CE_abl−CE_spl, CE_abl−CE_clean · γ: ‖x̂‖², x̂·x · L0: count, tokens.
    """

    study: str
    task: str
    arm: str
    metric: str
    split: str
    seed: int
    point: float | None
    subject: str
    unit_kind: UnitKind
    unit: str
    num: float
    den: float
    n_obs: int

    def __post_init__(self) -> None:
        check(self)
        require_split(Unit, self.split)
        if self.n_obs < 0:
            raise wrong(Unit, "n_obs", self.n_obs, "0 or more")


class Units:
    """A table of `Unit` rows held as columns (texts dictionary-encoded). Rows of one unit and subject add up.

    >>> table = Units.of(study="s", task="t", arm="topk", metric="fvu", split="test", unit=["d1", "d2"], num=[1, 2],
    ...                  den=[4, 4], n_obs=[9, 7])
    >>> len(table), table["num"].sum() / table["den"].sum()
    (2, np.float64(0.375))
    """

    def __init__(self, table: Any) -> None:
        """Take a pyarrow.Table with the columns of `Unit` (texts plain or dictionary-encoded); raises `BadInput`."""
        self.table = _encoded(table)
        _check_columns(self)

    @classmethod
    def of(
        cls,
        *,
        study: Texts,
        task: Texts,
        arm: Texts,
        metric: Texts,
        split: Texts,
        unit: Texts,
        num: ArrayLike,
        den: ArrayLike,
        n_obs: ArrayLike = 1,
        seed: ArrayLike = 0,
        point: ArrayLike | None = None,
        subject: Texts = "",
        unit_kind: Texts = "document",
    ) -> Self:
        """Build from columns; a single value stands for a whole column. A NaN point means no point."""
        points = np.asarray(np.nan if point is None else point, dtype=np.float64)
        given: dict[str, Any] = {
            "study": study,
            "task": task,
            "arm": arm,
            "metric": metric,
            "split": split,
            "seed": seed,
            "point": points,
            "subject": subject,
            "unit_kind": unit_kind,
            "unit": unit,
            "num": num,
            "den": den,
            "n_obs": n_obs,
        }
        lengths = {name: np.shape(value)[0] for name, value in given.items() if np.ndim(value)}
        if len(set(lengths.values())) > 1:
            raise BadInput(f"Columns of units differ in length: {lengths}.")
        n = next(iter(lengths.values()), 1)
        columns = [_column(field, given[field.name], n) for field in arrow_schema(Unit)]
        return cls(pa.table(columns, names=arrow_schema(Unit).names))

    @classmethod
    def from_records(cls, records: Iterable[Unit]) -> Self:
        return cls(pa.Table.from_pylist(to_rows(Unit, list(records)), schema=arrow_schema(Unit)))

    @classmethod
    def empty(cls) -> Self:
        return cls.from_records([])

    @classmethod
    def concat(cls, tables: Iterable[Units]) -> Self:
        parts = [part.table for part in tables]
        return cls(pa.concat_tables(parts).unify_dictionaries()) if parts else cls.empty()

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Unit]:
        for row in self.table.to_pylist():
            yield Unit(**row)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column as NumPy: float64, int64, or objects for texts; a missing point is NaN."""
        column = self.table.column(name)
        if name == "point":
            column = compute.fill_null(column, float("nan"))
        return column.to_numpy()

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A text column as (index of each row, the distinct texts)."""
        column = self.table.column(name)
        if column.num_chunks == 0:
            return np.zeros(0, np.int64), []
        whole = column.unify_dictionaries()
        indices = np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks])
        return indices.astype(np.int64), whole.chunk(0).dictionary.to_pylist()

    def where(self, **equal: str | int) -> Units:
        """The rows whose columns equal the given values, as `units.where(metric="fvu", split="test")`."""
        keep = np.ones(len(self), dtype=bool)
        for name, value in equal.items():
            if name not in kinds(Unit):
                raise BadInput(f'"{name}" is not a column of units.{nearest(name, kinds(Unit))}')
            if isinstance(value, str):
                index, texts = self.codes(name)
                keep &= index == (texts.index(value) if value in texts else -1)
            else:
                keep &= self[name] == value
        return self.keep(keep)

    def keep(self, rows: NDArray[np.bool_]) -> Units:
        """The rows where `rows` [len(self)] is true."""
        return Units(self.table.filter(pa.array(rows)))

    def plain(self) -> Any:
        """The Arrow table with texts as plain strings: what is written to Parquet."""
        return self.table.cast(arrow_schema(Unit))

    def to_pandas(self) -> pd.DataFrame:
        return self.plain().to_pandas()


def _column(field: Any, value: Any, n: int) -> Any:
    if field.type != pa.string():
        whole = field.type == pa.int64()
        array = np.asarray(value)
        if whole and array.dtype.kind not in "iu":
            raise wrong(Unit, field.name, value, "whole numbers")
        array = np.broadcast_to(array.astype(np.int64 if whole else np.float64), n)
        return pa.array(array, mask=np.isnan(array) if field.name == "point" else None, type=field.type)
    if isinstance(value, str):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([value], pa.string()))
    try:
        return pa.array(list(value), pa.string()).dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise wrong(Unit, field.name, type(value).__name__, "texts only") from None


def _encoded(table: Any) -> Any:
    schema = arrow_schema(Unit)
    if table.column_names != schema.names:
        came = ", ".join(table.column_names)
        raise BadInput(f"Units have the columns {', '.join(schema.names)}; these came: {came}.")
    columns: list[Any] = []
    for field in schema:
        column = table.column(field.name)
        text = field.type == pa.string()
        if text and not pa.types.is_dictionary(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        elif not text and column.type != field.type:
            raise wrong(Unit, field.name, str(column.type), f"a column of {field.type}")
        columns.append(column)
    return pa.table(columns, names=schema.names)


def _check_columns(units: Units) -> None:
    for name, kind in kinds(Unit).items():
        if not kind.null and units.table.column(name).null_count:
            raise wrong(Unit, name, None, "present in every row")
        for word in units.codes(name)[1] if kind.words else ():
            if word not in kind.words:
                raise BadInput(f'Unit.{name} is "{word}".{nearest(word, kind.words)}')
    for split in units.codes("split")[1]:
        require_split(Unit, split)
    for name in ("num", "den", "point"):
        bad = np.isinf(units[name]) if name == "point" else ~np.isfinite(units[name])
        if bad.any():
            row = units.table.slice(int(np.argmax(bad)), 1).to_pylist()[0]
            where = f"metric {row['metric']}, arm {row['arm']}, {row['unit_kind']} {row['unit']}"
            raise BadInput(f"Unit.{name} is {row[name]} ({where}); it must be a finite number.")
    if len(units) and int(units["n_obs"].min()) < 0:
        raise wrong(Unit, "n_obs", int(units["n_obs"].min()), "0 or more")
