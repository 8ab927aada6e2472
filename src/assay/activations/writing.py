"""The second thread of a harvest: rows go to disk as they come from the model, which reads on meanwhile.

1. The model's thread hands over the rows of a batch, in the type they are kept in, through a bounded queue.
2. This thread appends them to one temporary file a site, hashing what it writes, and cuts them into shards.
3. A full shard is synced and renamed, site by site; then the manifest that lists it is replaced, atomically.

No shard ever lies in memory whole, and whatever kills the process leaves whole shards and temporary files. What goes
wrong here is raised in the model's thread, at its next `submit` or at the end.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from assay.activations import shards
from assay.core.artefact import storage, sync_folder

SYNCED_BYTES = 2**24  # a file is synced whenever it has grown by this much, so that its end has little left to wait for


class ShardWriter:
    """`with ShardWriter(out, manifest, n_waiting) as writer: writer.submit({site: [n, d]})`, the rows in their order.

    They begin at the first row that no shard of the manifest holds. At most `n_waiting` submissions wait for the disk.
    On leaving all rows are on disk and in the manifest; after an exception the whole shards among them.
    """

    def __init__(self, out: Path, manifest: dict[str, Any], n_waiting: int) -> None:
        self._out, self._manifest = out, manifest
        self._queue: Queue[dict[str, Tensor] | None] = Queue(n_waiting)
        self._open: dict[str, ShardFile] = {}
        self._left = 0  # rows that the open files still want
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="shards")

    def __enter__(self) -> ShardWriter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def submit(self, rows: dict[str, Tensor]) -> None:
        """{site: [n, d]}, on the CPU, in the type they are kept in; nobody may write into them afterwards. Waits while the queue is full."""
        self._raise()
        self._queue.put(rows)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (rows := self._queue.get()) is not None:
            if self._error is not None:
                continue  # what else is submitted before the model's thread learns of it
            try:
                self._write(rows)
            except BaseException as error:
                self._error = error
        for file in self._open.values():
            file.drop()

    def _write(self, rows: dict[str, Tensor]) -> None:
        at, n = 0, len(next(iter(rows.values())))
        while at < n:
            if not self._open:
                self._begin()
            here = min(n - at, self._left)
            for site, file in self._open.items():
                file.append(rows[site][at : at + here])
            at, self._left = at + here, self._left - here
            if self._left == 0:
                self._finish()

    def _begin(self) -> None:
        index, per_shard = len(self._manifest["shards"]), self._manifest["shard_rows"]
        self._left = min(per_shard, self._manifest["n_rows"] - index * per_shard)
        dtype = self._manifest["dtype"]
        for site, width in self._manifest["sites"].items():
            path = self._out / shards.shard_name(site, index)
            self._open[site] = ShardFile(path, shards.header((self._left, width), dtype))

    def _finish(self) -> None:
        written = {site: file.close() for site, file in self._open.items()}
        self._open = {}
        self._manifest["shards"].append(written)
        shards.write_manifest(self._out, self._manifest)


class ShardFile:
    """A file that grows under a temporary name beside its place; `close` syncs it, renames it and returns its SHA-256."""

    def __init__(self, path: Path, header: bytes) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._digest, self._unsynced = hashlib.sha256(), 0
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._temporary, "wb", buffering=0)  # noqa: SIM115
        self._put(memoryview(header))

    def append(self, x: Tensor) -> None:
        """Rows [n, d], contiguous or not."""
        self._put(x.contiguous().view(torch.uint8).numpy().data.cast("B"))

    def close(self) -> str:
        with storage(self._path):
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self._path)
            sync_folder(self._path.parent)
        return self._digest.hexdigest()

    def drop(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _put(self, data: memoryview) -> None:
        self._digest.update(data)
        self._unsynced += len(data)
        with storage(self._path):
            while data:  # a raw file may take a part
                data = data[self._file.write(data) :]
            if self._unsynced >= SYNCED_BYTES:
                os.fsync(self._file.fileno())
                self._unsynced = 0
