"""Records as Parquet: exact schema, its version in the file's metadata, page checksums, atomic writing.

A file that is torn, altered, of another table or of a newer schema raises `Corrupt` naming it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from assay.core.artefact import SCHEMA, atomic_write
from assay.core.errors import AssayError, Corrupt, NotFound
from assay.core.record import arrow_schema, canonical, from_rows, to_rows
from assay.core.units import Unit, Units
from assay.core.untyped import pa, parquet

T = TypeVar("T")
N = TypeVar("N")

TABLE, VERSION, NOTES = b"assay.table", b"assay.schema", b"assay.notes"


def write_units(path: Path, units: Units) -> None:
    _write(path, Unit, units.plain(), {})


def read_units(path: Path) -> Units:
    table = _read(path, Unit)
    try:
        return Units(table)
    except AssayError as error:
        raise Corrupt(f"{path} holds units that break the schema: {error}") from None


def write_records(
    path: Path, cls: type[Any], records: Sequence[Any], notes: tuple[type[Any], Sequence[Any]] | None = None
) -> None:
    """Write records of one class; `notes` (their class, the records) go into the metadata of the file."""
    table = pa.Table.from_pylist(to_rows(cls, list(records)), schema=arrow_schema(cls))
    extra = {} if notes is None else {NOTES: canonical(to_rows(notes[0], list(notes[1]))).encode()}
    _write(path, cls, table, extra)


@overload
def read_records(path: Path, cls: type[T]) -> tuple[list[T], list[Any]]: ...
@overload
def read_records(path: Path, cls: type[T], notes: type[N]) -> tuple[list[T], list[N]]: ...
def read_records(path: Path, cls: type[Any], notes: type[Any] | None = None) -> tuple[list[Any], list[Any]]:
    """The records of a file and the notes in its metadata (of class `notes`; empty when not asked for)."""
    table = _read(path, cls)
    try:
        metadata: dict[bytes, bytes] = table.schema.metadata or {}
        kept: list[dict[str, Any]] = json.loads(metadata.get(NOTES, b"[]"))
        return from_rows(cls, table.to_pylist()), [] if notes is None else from_rows(notes, kept)
    except (AssayError, ValueError, TypeError) as error:
        raise Corrupt(f"{path} holds records that break the schema: {error}") from None


def _write(path: Path, cls: type[Any], table: Any, extra: dict[bytes, bytes]) -> None:
    metadata = {TABLE: cls.__name__.encode(), VERSION: str(SCHEMA).encode(), **extra}
    sink = pa.BufferOutputStream()
    parquet.write_table(
        table.replace_schema_metadata(metadata), sink, compression="zstd", write_page_checksum=True, store_schema=True
    )
    atomic_write(Path(path), sink.getvalue().to_pybytes())


def _read(path: Path, cls: type[Any]) -> Any:
    if not Path(path).is_file():
        raise NotFound(f"{path} does not exist.")
    try:
        table = parquet.read_table(pa.BufferReader(Path(path).read_bytes()), page_checksum_verification=True)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise Corrupt(f"{path} is not a whole Parquet file ({error}); it was torn or altered.") from None
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    if metadata.get(TABLE) != cls.__name__.encode():
        raise Corrupt(f"{path} is not a table of {cls.__name__} written by assay.")
    version = metadata.get(VERSION, b"").decode(errors="replace")
    if version != str(SCHEMA):
        raise Corrupt(f"{path} has schema {version or 'unstated'}; this version of assay reads schema {SCHEMA}.")
    expected = arrow_schema(cls)
    if not table.schema.equals(expected):
        names = [f"{field.name}: {field.type}" for field in expected]
        raise Corrupt(f"{path} does not have the columns of {cls.__name__} ({', '.join(names)}).")
    return table
