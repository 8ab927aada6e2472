"""Texts from files, from the hub and from what ships, one string at a time; every refusal is one sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, NotFound, Unreachable, nearest

SHIPPED = "storyworld"
SUFFIXES = (".jsonl", ".jsonl.gz", ".txt", ".parquet")
HUB_TIMEOUT_SECONDS = 5
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.+-]+){0,2}")


def parse(source: str) -> tuple[str, int | None]:
    """The source without its count, and the count of `storyworld:n`. A file or value is looked for at once."""
    if source == SHIPPED or source.startswith(f"{SHIPPED}:"):
        parts = source.split(":")[1:]
        chosen = f"{SHIPPED}:{parts.pop(0)}" if parts and "=" in parts[0] else SHIPPED
        if parts and not (len(parts) == 1 and parts[0].isdecimal() and int(parts[0]) > 0):
            raise BadInput(
                f'"{source}" asks for "{":".join(parts)}" stories; write {SHIPPED}:n with a whole n of at least 1.'
            )
        _wanted(chosen)
        return chosen, int(parts[0]) if parts else None
    path = Path(source).expanduser()
    if path.is_dir():
        raise BadInput(f"{source} is a folder; give one file ending in {', '.join(SUFFIXES)}.")
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise BadInput(f"{source} is not a kind of text that can be read; known endings: {', '.join(SUFFIXES)}.")
        if path.stat().st_size == 0:
            raise BadInput(f"{source} is empty; give a file with text in it.")
        return str(path), None
    if source.endswith((*SUFFIXES, ".json", ".csv", ".gz")) or not _HUB_NAME.fullmatch(source):
        raise NotFound(f"{source} does not exist; give a text file, a hub dataset NAME[:config][:split], or {SHIPPED}.")
    return source, None


def texts(source: str, text_column: str) -> Iterator[str]:
    """The texts of a parsed source. An empty string stands for a row without text."""
    if source == SHIPPED or source.startswith(f"{SHIPPED}:"):
        from assay.core import shipped

        variable, values = _wanted(source)
        return (s["text"] for s in shipped.stories() if variable is None or s[variable] in values)
    path = Path(source)
    if not path.is_file():
        return _hub(source, text_column)
    if path.name.endswith(".parquet"):
        return _parquet(path, text_column)
    if path.name.endswith(".txt"):
        return _paragraphs(path)
    return _json_lines(path, text_column)


def _wanted(source: str) -> tuple[str | None, set[str]]:
    """The variable and its values of `storyworld:variable=value,value`; all stories where none is named."""
    if source == SHIPPED:
        return None, set()
    from assay.core import shipped

    variable, _, values = source[len(SHIPPED) + 1 :].partition("=")
    known: dict[str, set[str]] = {}
    for story in shipped.stories():
        for name, value in story.items():
            known.setdefault(name, set()).add(value)
    del known["text"]
    if variable not in known:
        raise NotFound(f'"{variable}" is not a variable of {SHIPPED}.{nearest(variable, known)}')
    for value in values.split(","):
        if value not in known[variable]:
            raise NotFound(f'No story of {SHIPPED} has {variable} "{value}".{nearest(value, known[variable])}')
    return variable, set(values.split(","))


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, gunzipped when its name says so."""
    n_line = 0
    opener: Any = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline=None) as file:
            for line in file:
                n_line += 1
                yield line
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise BadInput(
            f"{path} is not UTF-8: byte 0x{byte:02x} after line {n_line} cannot be decoded; convert the file to UTF-8."
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{path} is not a whole gzip file ({error}, after line {n_line}); fetch it again.") from None
    except PermissionError:
        raise BadInput(f"{path} may not be read; change its permissions or choose another file.") from None


def _paragraphs(path: Path) -> Iterator[str]:
    """Documents parted by blank lines."""
    held: list[str] = []
    for line in _lines(path):
        if line.strip():
            held.append(line)
        elif held:
            yield "".join(held).rstrip("\n")
            held = []
    if held:
        yield "".join(held).rstrip("\n")


def objects(path: Path, *columns: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each object of a .jsonl or .jsonl.gz file stands ("line 3 of FILE"), and the object; `columns` for what is said of others.

    Raises BadInput naming the line that is not one.
    """
    for n, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"Line {n} of {path} is not JSON ({error.msg}); one object a line is needed.") from None
        if not isinstance(row, dict):
            example = json.dumps(dict.fromkeys(columns, "..."))
            raise BadInput(f"Line {n} of {path} is not an object; lines such as {example} are needed.")
        yield f"line {n} of {path}", row


def _json_lines(path: Path, column: str) -> Iterator[str]:
    for where, row in objects(path, column):
        yield _text_of(row, column, where)


def _text_of(row: dict[str, Any], column: str, where: str) -> str:
    if column not in row:
        raise NotFound(f'There is no column "{column}" in {where}; choose with --text-column.{nearest(column, row)}')
    text = row[column]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadInput(f'"{column}" in {where} holds a {type(text).__name__}, not text; choose with --text-column.')
    return text


def _parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if column not in names:
            raise NotFound(
                f'There is no column "{column}" in {path}; choose with --text-column.{nearest(column, names)}'
            )
        kind = file.schema_arrow.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise BadInput(f'"{column}" in {path} holds {kind}, not text; choose with --text-column.')
        for batch in file.iter_batches(batch_size=1024, columns=[column]):
            for text in batch.column(0).to_pylist():
                yield text or ""
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
        raise BadInput(f"{path} is not a whole parquet file ({reason}); fetch or write it again.") from None


def _hub(source: str, column: str) -> Iterator[str]:
    """A hub dataset, streamed. The hub is asked once, briefly, before the dataset library is left to its retries."""
    name, *rest = source.split(":")
    config, split = (rest[0], rest[1]) if len(rest) == 2 else (None, rest[0]) if rest else (None, "train")
    _ask_hub(name)
    import datasets

    try:
        known = datasets.get_dataset_config_names(name)
        if config is None and rest and split in known:  # NAME:config
            config, split = split, "train"
        if config is not None and config not in known:
            raise NotFound(f'Dataset {name} has no configuration "{config}".{nearest(config, known)}')
        splits = datasets.get_dataset_split_names(name, config)
        if split not in splits:
            raise NotFound(f'Dataset {name} has no split "{split}".{nearest(split, splits)}')
        stream = datasets.load_dataset(name, config, split=split, streaming=True)
        for n, row in enumerate(stream, 1):
            yield _text_of(row, column, f"row {n} of {source}")
    except OSError as error:  # every error of the network is one
        raise Unreachable(
            f"The hub stopped answering while {source} was read ({_first_line(error)}); try again, or "
            "download the dataset and give the file."
        ) from None
    except (NotFound, BadInput):
        raise
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            f"Dataset {source} cannot be read ({_first_line(error)}); name its configuration and split as "
            "NAME:config:split, or give a file."
        ) from None


def _ask_hub(name: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    shipped = nearest(name, [SHIPPED]) if "/" not in name else f" Known without a hub: {SHIPPED}."
    if offline:
        raise Unreachable(f"No file {name} here, and HF_HUB_OFFLINE forbids asking the hub for a dataset.{shipped}")
    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except RepositoryNotFoundError:
        raise NotFound(f"There is no file and no hub dataset called {name} that you may read.{shipped}") from None
    except Exception as error:  # the client's network errors share no base class across its versions
        raise Unreachable(
            f"{name} is not a file here, and the hub does not answer ({_first_line(error)}); connect to the network "
            f"or give a text file.{shipped}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
