"""Text blocks through a model into a store, several sites in one forward pass, resumable after a kill at any moment.

1. The columns and document ids are written; then the manifest, which lists no shard yet.
2. Blocks go through the model in fixed batches, in order (ragged ones are sorted by length within fixed windows, and
   their rows put back in order); rows are cast once and handed to a second thread.
3. That thread (writing.py) appends them to a shard a site under a temporary name, hashes, syncs and renames it, while
   the model reads on.
4. After each shard of all sites the manifest is rewritten, atomically, with their checksums. A harvest that died is
   resumed at the first row the manifest does not cover, in the same batches, so the bytes are those of a harvest that
   never died (same machine, device and number of threads).

Several processes share the forward passes batch by batch; the leading one writes, and the bytes are those of one process.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.activations import shards
from assay.activations.live import describe_blocks, forward_together, window_of
from assay.activations.source import check_finite, torch_dtype
from assay.activations.store import Store
from assay.activations.table import Blocks
from assay.activations.writing import ShardWriter
from assay.core import distribution
from assay.core.artefact import read_json, refuse_existing, storage, write_json
from assay.core.errors import BadOption, Storage
from assay.core.progress import progress
from assay.core.provenance import collect

SHARD_BYTES = 2**27  # of the widest site, unless shard_rows is given
QUEUED_BYTES = 2**27  # that may wait for the disk, of all sites together; two batches always may


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
            "--store-dtype bfloat16, fewer sites or less text, or another disk."
        )
    files = shards.write_table(out, blocks.table)
    write_json(out / shards.PROVENANCE, collect(**{**wanted, **facts}))
    manifest = {**wanted, "files": files, "shards": [], "complete": False}
    if (window := window_of(blocks, list(wanted["sites"].values()), wanted["batch_size"])) > 1:
        manifest["sorted_batches"] = (
            window  # it decides which blocks share a batch, and so the last bits; a resumed harvest keeps its own
        )
    shards.write_manifest(out, manifest)
    return manifest


def _only_begun(out: Path) -> bool:
    """Whether a folder holds nothing but what a harvest writes before its first manifest."""
    begun = {shards.COLUMNS, shards.DOCUMENTS, shards.PROVENANCE}
    return out.is_dir() and all(p.name in begun or (p.name[0] == "." and p.suffix == ".tmp") for p in out.iterdir())


def _fill(model: Any, blocks: Blocks, out: Path, manifest: dict[str, Any], quiet: bool) -> None:
    """Steps 2 to 4, from the first row that no complete shard holds."""
    table, sites, size, dtype = blocks.table, manifest["sites"], manifest["batch_size"], manifest["dtype"]
    kept_as = torch_dtype(dtype)
    row = n_before = min(len(manifest["shards"]) * manifest["shard_rows"], table.n_rows)
    window = manifest.get("sorted_batches", 1)
    first_window = (int(np.searchsorted(table.starts, row, side="right")) - 1) // (size * window)
    chosen = np.arange(first_window * size * window, table.n_blocks)
    bytes_at_once = window * size * blocks.context * sum(sites.values()) * kept_as.itemsize
    started = time.perf_counter()
    with (
        ShardWriter(out, manifest, max(QUEUED_BYTES // bytes_at_once, 2)) as writer,
        progress(table.n_rows, "harvest", "tokens", quiet=quiet, done=row) as bar,
    ):
        for rows, got in forward_together(model, blocks, chosen, list(sites), size, window):
            skipped = max(row - int(rows[0]), 0)  # rows of a resumed batch that lie in the last complete shard
            kept = {site: x[skipped:].to("cpu", kept_as) for site, x in got.items()}
            if dtype == "float16":
                for site, x in kept.items():
                    check_finite(site, x, rows[skipped:], table, dtype)
            writer.submit(kept)
            bar.advance(len(rows) - skipped)
    if not distribution.leading():
        return
    manifest["complete"] = True
    seconds = (
        (time.perf_counter() - started) * table.n_rows / max(table.n_rows - n_before, 1)
    )  # of all rows, at this pace
    write_json(out / shards.PROVENANCE, {**read_json(out / shards.PROVENANCE), "seconds": seconds})
    shards.write_manifest(out, manifest)
