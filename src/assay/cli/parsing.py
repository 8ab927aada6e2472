"""From a command line to options: tyro does the parsing, our own option classes are the single source of names and help."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro

from assay.core.errors import BadOption, nearest

COUNT = re.compile(r"^(\d+(?:\.\d+)?)([kKMBG]?)$|^(\d+(?:\.\d+)?[eE]\+?\d+)$")
UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9}


@dataclasses.dataclass(kw_only=True)
class Common:
    """Flags that every working verb has."""

    out: Path | None = None
    """Folder of the result; runs/VERB-1 (or the next free number) when not given."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, mps."""
    dtype: str = "float32"
    """Number format of the model."""
    threads: int | None = None
    """CPU threads; all cores when not given. A resumed run needs the number it was started with."""
    quiet: bool = False
    """No progress and no notes."""
    json: bool = False
    """Print the result as JSON on standard output."""


COMMON = {field.name for field in dataclasses.fields(Common)}


def help_of(cls: type) -> dict[str, str]:
    """The sentence under each field of an options class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is object or not dataclasses.is_dataclass(base):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError):
            continue
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[field.target.id] = str(after.value.value)  # type: ignore[union-attr]
    return found


def mirror(name: str, *classes: type, leave_out: tuple[str, ...] = ()) -> type:
    """A plain dataclass with the fields, defaults and help of `classes`; values are checked when the real one is made."""
    fields: dict[str, tuple[str, Any, Any]] = {}
    for cls in classes:
        helps, hints = help_of(cls), get_type_hints(cls)
        own_first = sorted(dataclasses.fields(cls), key=lambda f: f.name in COMMON)
        for field in own_first:
            if field.name in leave_out or field.name in fields:
                continue
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            kind = _explained(hints[field.name], helps.get(field.name, ""), default)
            fields[field.name] = (
                (field.name, kind, dataclasses.field())
                if default is dataclasses.MISSING
                else (field.name, kind, dataclasses.field(default=default))
            )
    return dataclasses.make_dataclass(name, list(fields.values()), kw_only=True)


def _explained(kind: Any, sentence: str, default: Any) -> Any:
    """The type with its help; where None or () stands for "not given", the help says so itself and shows no default."""
    absent = default is None or default == ()
    options: dict[str, Any] = {"help": sentence, **({"help_behavior_hint": ""} if absent else {})}
    plain = (
        [part for part in get_args(kind) if part is not type(None)] if get_origin(kind) in (Union, UnionType) else []
    )
    if absent and len(plain) == 1 and isinstance(plain[0], type):
        options["metavar"] = plain[0].__name__.upper()
    return Annotated[kind, tyro.conf.arg(**options)]


def parse(
    verb: str,
    about: str,
    argv: list[str],
    *classes: type,
    arch: type | None = None,
    leave_out: tuple[str, ...] = (),
    positional: tuple[str, ...] = (),
) -> SimpleNamespace:
    """The fields of `classes` as attributes; with `arch`, its options as a mapping in `.arch`.

    Counts such as 10M or 1e6 are understood wherever a whole number is asked for. Options of the architecture may be given with or
    without the prefix `arch.`.
    """
    own = mirror(verb, *classes, leave_out=leave_out)
    hints = {f.name: f.type for f in dataclasses.fields(own)}
    extra: list[tuple[str, Any]] = []
    inner: dict[str, Any] = {}
    if arch is not None:
        nested = mirror(arch.__module__.rsplit(".", 1)[-1], arch, leave_out=("d_in", "d_out", "rows"))
        inner = {f.name: f.type for f in dataclasses.fields(nested)}
        extra = [("arch", nested)]
        argv = [_prefixed(word, hints, inner) for word in argv]
    _refuse_unknown(verb, argv, [*hints, *(f"arch.{name}" for name in inner)])
    argv = _counts(argv, {**hints, **{f"arch.{n}": t for n, t in inner.items()}})
    for name in positional:
        hints[name] = tyro.conf.Positional[hints[name]]
    everything = dataclasses.make_dataclass(verb, [*extra, *_rebuilt(own, hints)], kw_only=True)
    given = tyro.cli(
        everything, prog=f"assay {verb}", description=about, args=argv, config=(tyro.conf.FlagCreatePairsOff,)
    )
    values = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
    if arch is not None:
        values["arch"] = {f.name: getattr(given.arch, f.name) for f in dataclasses.fields(given.arch)}
    return SimpleNamespace(**values)


def _rebuilt(cls: type, hints: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (
            f.name,
            hints[f.name],
            dataclasses.field() if f.default is dataclasses.MISSING else dataclasses.field(default=f.default),
        )
        for f in dataclasses.fields(cls)
    ]


def _prefixed(word: str, own: dict[str, Any], inner: dict[str, Any]) -> str:
    flag, equals, value = word.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if flag.startswith("--") and name in inner and name not in own:
        return f"--arch.{name.replace('_', '-')}{equals}{value}"
    return word


def _refuse_unknown(verb: str, argv: list[str], names: list[str]) -> None:
    """One sentence for a flag that there is not, with the nearest that there is."""
    flags = {name.replace("_", "-") for name in names}
    for word in argv:
        flag = word.partition("=")[0].removeprefix("--").replace("_", "-")
        if word.startswith("--") and flag not in (*flags, "help") and flag.removeprefix("no-") not in flags:
            short = {f.removeprefix("arch.") for f in flags}
            raise BadOption(
                f'"--{flag}" is not a flag of assay {verb}.{nearest(flag.removeprefix("arch."), sorted(short))}'
            )


def _counts(argv: list[str], hints: dict[str, Any]) -> list[str]:
    """Write 10M and 1e6 as whole numbers where the flag before them asks for one."""
    done: list[str] = []
    name = ""
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            name = flag.removeprefix("--").replace("-", "_")
            done.append(f"{flag}={whole(value)}" if equals and _asks_for_int(hints.get(name)) else word)
        else:
            done.append(whole(word) if _asks_for_int(hints.get(name)) else word)
    return done


def whole(word: str) -> str:
    """`10M` -> `10000000`; anything that is not a count stays as it is, for the parser to refuse."""
    match = COUNT.match(word)
    if match is None:
        return word
    number = float(match[3]) if match[3] else float(match[1]) * UNITS[match[2]]
    return str(int(number)) if number == int(number) else word


def _asks_for_int(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType, tuple, list):
        return any(_asks_for_int(part) for part in get_args(kind))
    return kind is int


def take_arch(argv: list[str], verb: str) -> tuple[str | None, list[str]]:
    """Take `--arch NAME` out of the command line: it decides which options there are."""
    rest: list[str] = []
    found: str | None = None
    words = iter(argv)
    for word in words:
        if word == "--arch":
            found = next(words, None)
            if found is None or found.startswith("-"):
                raise BadOption(f"--arch needs a name after it; see assay {verb} --help.")
        elif word.startswith("--arch="):
            found = word.removeprefix("--arch=")
        else:
            rest.append(word)
    return found, rest


def subset(values: SimpleNamespace, cls: type) -> dict[str, Any]:
    """The values that belong to the option class `cls`."""
    return {f.name: getattr(values, f.name) for f in dataclasses.fields(cls) if hasattr(values, f.name)}


def result_folder(out: Path | None, verb: str) -> Path:
    """`--out`, or the first free runs/VERB-n."""
    if out is not None:
        return out
    n = 1
    while (folder := Path("runs") / f"{verb}-{n}").exists():
        n += 1
    return folder
