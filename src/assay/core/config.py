"""Options as frozen pydantic dataclasses: the same object is the command line, the JSON on disk and the Python argument."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar, dataclass_transform

import pydantic
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from assay.core.errors import AssayError, BadOption, nearest

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only, validated dataclass that refuses unknown keys and non-finite numbers.

    A bad value or key raises `BadOption` with one sentence instead of pydantic's report.
    """
    made: Any = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))(cls)
    init = made.__init__

    def __init__(self: Any, **given: Any) -> None:
        known = [f.name for f in dataclasses.fields(made)]
        for name, value in given.items():
            if name not in known:
                raise BadOption(f'"{name}" is not an option of {option_owner(made)}.{nearest(name, known)}')
            if isinstance(value, float) and not math.isfinite(value):
                raise BadOption(f"{flag(name)} is {value}; a finite number is needed.")
        try:
            init(self, **given)
        except pydantic.ValidationError as error:
            raise BadOption(_one_sentence(error, made)) from None

    made.__init__ = __init__
    return made


def _one_sentence(error: pydantic.ValidationError, cls: type) -> str:
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, AssayError):  # raised by a check in __post_init__
        return str(cause)
    name = str(first["loc"][0]) if first["loc"] else option_owner(cls)
    if first["type"] == "missing":
        return f"{flag(name)} is needed by {option_owner(cls)} and was not given."
    return f"{flag(name)} is {first.get('input')!r}: {first['msg'].lower()}."


def option_owner(cls: type) -> str:
    """How a message names the owner of options: `gated` for `assay.dictionaries.gated.Config`."""
    return cls.__module__.rsplit(".", 1)[-1] if cls.__name__ == "Config" else cls.__name__


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Check one option; the message names the flag, the value and what is allowed."""
    if not condition:
        raise BadOption(f"{flag(name)} is {value!r}; it must be {expected}.")


def to_json(options: Any) -> dict[str, Any]:
    """A plain dictionary of an options object."""
    return TypeAdapter(type(options)).dump_python(options, mode="json")


def from_json(cls: type[T], data: dict[str, Any]) -> T:
    """The options object of a plain dictionary; unknown keys are refused and the nearest known one is named."""
    return cls(**data)
