"""The files of a store, and its manifest: the one file that says which of them are whole.

manifest.json          schema, sites and widths, dtype, rows, shard_rows, SHA-256 of every other file, and of itself
columns.safetensors    token_id, document, position, role, special [n_rows]; block_rows [n_blocks]
documents.json         ids of the documents, which `document` points into
SITE/00000.safetensors "x" [shard_rows, d]; the last shard may be shorter
provenance.json        command, versions, time (the only file that differs between two equal harvests)
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from assay.activations.source import DTYPES
from assay.activations.table import Table
from assay.core.artefact import atomic_write, read_json, read_tensors, sha256_bytes, sha256_file, write_json
from assay.core.errors import Corrupt, NotFound

SCHEMA = 1
KIND = "activations"
MANIFEST = "manifest.json"
COLUMNS = "columns.safetensors"
DOCUMENTS = "documents.json"
PROVENANCE = "provenance.json"
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # of number formats, in safetensors
REQUIRED = {
    "sites": dict,
    "dtype": str,
    "n_rows": int,
    "shard_rows": int,
    "shards": list,
    "files": dict,
    "complete": bool,
}


def shard_name(site: str, index: int) -> str:
    """Where a shard lies inside the folder; a site can never name a place outside it."""
    safe = site if re.fullmatch(r"\w[\w.-]*", site) else f"site-{sha256_bytes(site.encode())[:12]}"
    return f"{safe}/{index:05d}.safetensors"


def header(shape: tuple[int, int], dtype: str) -> bytes:
    """What a shard begins with; the bytes of x [n, d] follow, row by row, little-endian.

    The safetensors format: the header's length in 8 bytes, JSON, spaces up to a multiple of 8; the same bytes as the library's.
    """
    n_bytes = shape[0] * shape[1] * DTYPES[dtype].itemsize
    said = {"x": {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [0, n_bytes]}}
    text = json.dumps(said, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def map_shard(folder: Path, site: str, index: int, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """x [n, d] of one shard, mapped from disk: only the rows that are touched are read."""
    path = folder / shard_name(site, index)
    try:
        with safe_open(path, framework="pt") as file:
            x = file.get_tensor("x")
    except (SafetensorError, OSError, ValueError) as error:
        raise Corrupt(f"{path} is not a whole shard ({error}); harvest it again.") from None
    if tuple(x.shape) != shape or x.dtype != dtype:
        raise Corrupt(f"{path} holds {list(x.shape)} {x.dtype}, the manifest says {list(shape)} {dtype}.")
    return x


def check_file(folder: Path, name: str, expected: str) -> None:
    """Compare a file with its recorded checksum; a missing or different one is named."""
    path = folder / name
    if not path.is_file():
        raise Corrupt(f"{path} is missing, though the manifest lists it; harvest again, or bring the file back.")
    if sha256_file(path) != expected:
        raise Corrupt(f"{path} differs from its recorded checksum; it was torn or altered after it was written.")


def write_table(folder: Path, table: Table) -> dict[str, str]:
    """Write the columns and the document ids; return the checksums of the two files."""
    columns = {
        "token_id": table.token_id,
        "document": table.document,
        "position": table.position,
        "role": table.role,
        "special": table.special,
        "block_rows": table.block_rows,
    }
    data = save({name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()})
    atomic_write(folder / COLUMNS, data)
    write_json(folder / DOCUMENTS, list(table.documents))
    return {COLUMNS: sha256_bytes(data), DOCUMENTS: sha256_file(folder / DOCUMENTS)}


def read_table(folder: Path) -> Table:
    columns = {name: x.numpy() for name, x in read_tensors(folder / COLUMNS).items() if name != "special"}
    return Table(**columns, documents=tuple(read_json(folder / DOCUMENTS)))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    body = {key: value for key, value in manifest.items() if key != "self"}
    write_json(folder / MANIFEST, {**body, "self": _digest(body)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked: right kind, schema and keys, and unaltered since it was written."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise NotFound(f"There are no activations at {folder}: no such folder; make them with `assay harvest`.")
    if not path.is_file():
        raise NotFound(f"There are no activations at {folder}: it has no {MANIFEST}; make them with `assay harvest`.")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise Corrupt(f"{path} is not the manifest of activations.")
    if manifest.get("schema") != SCHEMA:
        raise Corrupt(f"{path} has schema {manifest.get('schema')!r}; this version reads schema {SCHEMA}.")
    for key, kind in REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise Corrupt(f'{path} has no usable "{key}"; it was altered after it was written.')
    if manifest.get("self") != _digest({key: value for key, value in manifest.items() if key != "self"}):
        raise Corrupt(f"{path} differs from its recorded checksum; it was altered after it was written.")
    return manifest


def _digest(body: dict[str, Any]) -> str:
    return sha256_bytes(json.dumps(body, sort_keys=True).encode())
