"""Records that check themselves: a frozen dataclass whose annotations are also its rules and its Parquet columns.

`Literal[...]` is a vocabulary, `X | None` may be null, a float is finite, an integer fits 64 bits, `dict` is JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import numbers
import types
import typing
from typing import Any, Literal, Protocol

from assay.core.errors import AssayError, BadInput, nearest
from assay.core.untyped import pa


class Record(Protocol):
    """Any frozen dataclass whose `__post_init__` calls `check`."""

    __dataclass_fields__: typing.ClassVar[dict[str, Any]]


Base = Literal["text", "whole", "number", "json", "texts"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What one field may hold. `words` is its vocabulary (empty: any text); `length` that of a fixed tuple."""

    base: Base
    null: bool = False
    words: tuple[str, ...] = ()
    length: int | None = None


@functools.cache
def kinds(cls: type[Any]) -> dict[str, Kind]:
    """Field name -> Kind, in the order of the fields."""
    hints = typing.get_type_hints(cls)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(cls)}


def _kind(hint: Any) -> Kind:
    null = False
    if isinstance(hint, types.UnionType):
        null = True
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return Kind("text", null, words=tuple(arguments))
    if origin is tuple:
        return Kind("texts", null, length=None if Ellipsis in arguments else len(arguments))
    if origin is dict:
        return Kind("json", null)
    bases: dict[Any, Base] = {str: "text", int: "whole", float: "number"}
    return Kind(bases[hint], null)


def check(record: Record) -> None:
    """Check every field against its annotation and store plain Python values. Raises `BadInput` naming the field."""
    cls = type(record)
    for name, kind in kinds(cls).items():
        value = getattr(record, name)
        plain = None if value is None and kind.null else _plain(cls, name, kind, value)
        if plain is not value:
            object.__setattr__(record, name, plain)


def wrong(cls: type[Any], name: str, value: object, expected: str) -> BadInput:
    return BadInput(f"{cls.__name__}.{name} is {value!r}; it must be {expected}.")


def _plain(cls: type[Any], name: str, kind: Kind, value: Any) -> Any:
    """`value` as a plain Python value, or `BadInput`."""
    if kind.base == "text":
        if not isinstance(value, str):
            raise wrong(cls, name, value, "text")
        if kind.words and value not in kind.words:
            raise BadInput(f'{cls.__name__}.{name} is "{value}".{nearest(value, kind.words)}')
        return str(value)
    if kind.base == "whole":
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or abs(int(value)) >= 2**63:
            raise wrong(cls, name, value, "a whole number")
        return int(value)
    if kind.base == "number":
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise wrong(cls, name, value, "a finite number" + (" or None" if kind.null else ""))
        return float(value)
    if kind.base == "texts":
        if isinstance(value, str) or not all(isinstance(item, str) for item in value):
            raise wrong(cls, name, value, "a tuple of texts")
        if kind.length is not None and len(value) != kind.length:
            raise wrong(cls, name, value, f"a tuple of {kind.length} texts")
        return tuple(value)
    try:
        made: Any = json.loads(canonical(value))
    except (TypeError, ValueError):
        made = None
    if not isinstance(made, dict):
        raise wrong(cls, name, repr(value), "a dictionary that JSON can hold")
    return made  # pyright: ignore[reportUnknownVariableType]


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal options give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def require_split(cls: type[Any], split: str) -> None:
    """A split is train, validation, test or shift:NAME."""
    if split not in ("train", "validation", "test") and not (split.startswith("shift:") and len(split) > 6):
        raise wrong(cls, "split", split, "train, validation, test or shift:NAME")


@functools.cache
def arrow_schema(cls: type[Any]) -> Any:
    """The Parquet columns of a record (a pyarrow.Schema), exact in order, type and nullability."""
    arrow = {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "json": pa.string(),
        "texts": pa.list_(pa.string()),
    }
    return pa.schema([pa.field(name, arrow[kind.base], nullable=kind.null) for name, kind in kinds(cls).items()])


def to_rows(cls: type[Any], records: list[Any]) -> list[dict[str, Any]]:
    """One plain dictionary per record, JSON fields as text."""
    fields = kinds(cls)
    return [
        {
            name: canonical(value) if kind.base == "json" else list(value) if kind.base == "texts" else value
            for name, kind in fields.items()
            for value in [getattr(record, name)]
        }
        for record in records
    ]


def from_rows(cls: type[Any], rows: list[dict[str, Any]]) -> list[Any]:
    """The records of `to_rows`. Raises `BadInput` (or another `AssayError`) when a value breaks a rule."""
    fields = kinds(cls)
    made: list[Any] = []
    for row in rows:
        try:
            values = {
                name: json.loads(value) if fields[name].base == "json" and value is not None else value
                for name, value in row.items()
            }
        except json.JSONDecodeError as error:
            raise AssayError(f"{cls.__name__} holds text that is not JSON ({error}).") from None
        made.append(cls(**values))
    return made
