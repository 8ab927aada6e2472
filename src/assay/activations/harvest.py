"""Text blocks through a model into a store, several sites in one forward pass, resumable after a kill at any moment.

1. The columns and document ids are written; then the manifest, which lists no shard yet.
2. Blocks go through the model in fixed batches, in order; their rows fill one buffer a site.
3. A full buffer is a shard: written to a temporary name, synced, renamed, by a second thread while the model reads on.
4. After each shard of all sites the manifest is rewritten, atomically, with their checksums. A harvest that died is
   resumed at the first row the manifest does not cover, in the same batches, so the bytes are those of a harvest that
   never died (same machine, device and number of threads).

Several processes share the forward passes batch by batch; the leading one writes, and the bytes are those of one process.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.activations import shards
from assay.activations.live import describe_blocks, forward_together
from assay.activations.source import check_finite, torch_dtype
from assay.activations.store import Store
from assay.activations.table import Blocks
from assay.core import distribution
from assay.core.artefact import read_json, refuse_existing, storage, write_json
from assay.core.errors import BadOption, Storage
from assay.core.progress import progress
from assay.core.provenance import collect

SHARD_BYTES = 2**27  # of the widest site, unless shard_rows is given


def harvest(
    model: Any,
    sites: Sequence[str],
    blocks: Blocks,
    out: Path | str,
    *,
    dtype: str = "float32",
    batch_size: int = 16,
    shard_rows: int | None = None,
    resume: bool = False,
    quiet: bool = False,
    facts: dict[str, Any] | None = None,
) -> Store:
    """Write the activations of `model` on `blocks` at `sites` to the folder `out` and open it.

    `dtype`: float32, bfloat16 or float16. `batch_size`: blocks a forward pass. `shard_rows`: rows a shard, by default
    the power of two that keeps the widest site's shard within 128 MiB. `facts` go to provenance.json.
    `resume` continues a harvest that stopped; it must have been given the same model, text and options.

    Raises `BadOption` (result exists; other options on resume), `BadInput` (non-finite activation, with its origin),
    `Storage` (disk full, unwritable; complete shards are kept).
    """
    out = Path(out)
    if batch_size < 1 or (shard_rows is not None and shard_rows < 1):
        raise BadOption(f"--batch-size is {batch_size} and --shard-rows {shard_rows}; both must be at least 1.")
    kept_as = torch_dtype(dtype)
    names = list(dict.fromkeys(model.canonical(site) for site in sites))
    if not names:
        raise BadOption("No site was given; name at least one with --site.")
    widths = {site: int(model.width(site)) for site in names}
    if shard_rows is None:
        shard_rows = 2 ** int(np.log2(max(SHARD_BYTES // (max(widths.values()) * kept_as.itemsize), 1)))
    wanted = {
        "schema": shards.SCHEMA,
        "kind": shards.KIND,
        **describe_blocks(model, blocks),
        "model_dtype": str(model.dtype).removeprefix("torch."),
        "sites": widths,
        "dtype": dtype,
        "batch_size": batch_size,
        "shard_rows": shard_rows,
    }
    if distribution.leading():
        manifest = _begin(out, wanted, blocks, resume, facts or {})
        distribution.wait()
    else:
        distribution.wait()
        manifest = shards.read_manifest(out)
    distribution.wait()  # all have read it before a shard changes it
    if not manifest["complete"]:
        _fill(model, blocks, out, manifest, quiet)
    distribution.wait()
    return Store.open(out)


def _begin(out: Path, wanted: dict[str, Any], blocks: Blocks, resume: bool, facts: dict[str, Any]) -> dict[str, Any]:
    """A new folder with columns and an empty manifest, or the manifest of the harvest that is resumed."""
    if resume and (out / shards.MANIFEST).is_file():
        manifest = shards.read_manifest(out)
        for key, value in wanted.items():
            if manifest.get(key) != value:
                shown = "another text" if key == "blocks_digest" else f"{key} {manifest.get(key)!r}, not {value!r}"
                raise BadOption(
                    f"{out} was begun with {shown}; resume with what it was begun with, or use another --out."
                )
        for name, expected in manifest["files"].items():
            shards.check_file(out, Path(name).name, expected)
        for torn in out.rglob(".*.tmp"):
            torn.unlink()
        return manifest
    if not (resume and _only_begun(out)):
        refuse_existing(out, resumable=(out / shards.MANIFEST).is_file() or _only_begun(out))
    with storage(out):
        out.mkdir(parents=True, exist_ok=True)
        for torn in out.glob(".*.tmp"):
            torn.unlink()
    need = sum(wanted["sites"].values()) * wanted["n_rows"] * torch_dtype(wanted["dtype"]).itemsize
    free = shutil.disk_usage(out).free
    if need > free:
        raise Storage(
            f"These activations need {need / 1e9:,.1f} GB and the disk of {out} has {free / 1e9:,.1f} GB free; use "
            "--dtype bfloat16, fewer sites or less text, or another disk."
        )
    files = shards.write_table(out, blocks.table)
    write_json(out / shards.PROVENANCE, collect(**{**wanted, **facts}))
    manifest = {**wanted, "files": files, "shards": [], "complete": False}
    shards.write_manifest(out, manifest)
    return manifest


def _only_begun(out: Path) -> bool:
    """Whether a folder holds nothing but what a harvest writes before its first manifest."""
    begun = {shards.COLUMNS, shards.DOCUMENTS, shards.PROVENANCE}
    return out.is_dir() and all(p.name in begun or (p.name[0] == "." and p.suffix == ".tmp") for p in out.iterdir())


def _fill(model: Any, blocks: Blocks, out: Path, manifest: dict[str, Any], quiet: bool) -> None:
    """Steps 2 to 4, from the first row that no complete shard holds."""
    table, sites = blocks.table, manifest["sites"]
    per_shard, size, dtype = manifest["shard_rows"], manifest["batch_size"], manifest["dtype"]
    row = min(len(manifest["shards"]) * per_shard, table.n_rows)
    first_batch = (int(np.searchsorted(table.starts, row, side="right")) - 1) // size
    chosen = np.arange(first_batch * size, table.n_blocks)
    started, n_before = time.perf_counter(), row
    buffers: dict[str, Tensor] = {}
    with (
        _Writer(out, manifest) as writer,
        progress(table.n_rows, "harvest", "tokens", quiet=quiet, done=row) as bar,
    ):
        for rows, got in forward_together(model, blocks, chosen, list(sites), size):
            skipped = row - int(rows[0])  # rows of a resumed batch that lie in the last complete shard
            begun_at = row
            while skipped < len(rows):
                if not buffers:
                    n = min(per_shard, table.n_rows - row)
                    buffers = {s: torch.empty(n, d, dtype=torch_dtype(dtype)) for s, d in sites.items()}
                at = row % per_shard
                n = min(len(rows) - skipped, len(next(iter(buffers.values()))) - at)
                for site, x in got.items():
                    buffers[site][at : at + n] = x[skipped : skipped + n]
                    if dtype == "float16":
                        check_finite(site, buffers[site][at : at + n], rows[skipped : skipped + n], table, dtype)
                row, skipped = row + n, skipped + n
                if row % per_shard == 0 or row == table.n_rows:
                    writer.submit(buffers)
                    buffers = {}
            bar.advance(row - begun_at)
    if not distribution.leading():
        return
    manifest["complete"] = True
    seconds = (
        (time.perf_counter() - started) * table.n_rows / max(table.n_rows - n_before, 1)
    )  # of all rows, at this pace
    write_json(out / shards.PROVENANCE, {**read_json(out / shards.PROVENANCE), "seconds": seconds})
    shards.write_manifest(out, manifest)


class _Writer:
    """Writes shards in a second thread, one behind the model; its errors surface at the next call."""

    def __init__(self, out: Path, manifest: dict[str, Any]) -> None:
        self._out, self._manifest = out, manifest
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shards")
        self._pending: Future[None] | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._wait(quietly=kind is not None)
        finally:
            self._pool.shutdown(wait=True)

    def submit(self, buffers: dict[str, Tensor]) -> None:
        self._wait()
        self._pending = self._pool.submit(self._write, buffers)

    def _wait(self, quietly: bool = False) -> None:
        pending, self._pending = self._pending, None
        if pending is not None and (not quietly or pending.exception() is None):
            pending.result()

    def _write(self, buffers: dict[str, Tensor]) -> None:
        index = len(self._manifest["shards"])
        written = {site: shards.write_shard(self._out, site, index, x) for site, x in buffers.items()}
        self._manifest["shards"].append(written)
        shards.write_manifest(self._out, self._manifest)
