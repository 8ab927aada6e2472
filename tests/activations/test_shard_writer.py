"""The thread that writes shards: the library's bytes, whole shards only, bounded waiting, errors that surface."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from assay.activations import shards, writing
from assay.activations.source import DTYPES
from assay.activations.writing import ShardWriter
from assay.core.artefact import sha256_file
from assay.core.errors import Storage

WIDTHS = {"a": 6, "b": 3}


def begun(n_rows: int, per_shard: int, dtype: str = "float32") -> dict:
    return {"sites": WIDTHS, "dtype": dtype, "n_rows": n_rows, "shard_rows": per_shard, "shards": []}


def rows_of(n: int, dtype: str = "float32") -> dict[str, torch.Tensor]:
    torch.manual_seed(n)
    return {site: torch.randn(n, d).to(DTYPES[dtype]) for site, d in WIDTHS.items()}


def submit_in_pieces(writer: ShardWriter, rows: dict[str, torch.Tensor], sizes: list[int]) -> None:
    at = 0
    for n in sizes:
        writer.submit({site: x[at : at + n] for site, x in rows.items()})
        at += n


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("sizes", [[23], [1] * 23, [4, 3, 9, 7], [0, 10, 13]])
def test_shards_hold_the_bytes_the_library_writes(tmp_path: Path, dtype: str, sizes: list[int]):
    rows, manifest = rows_of(23, dtype), begun(23, 8, dtype)
    with ShardWriter(tmp_path, manifest, 2) as writer:
        submit_in_pieces(writer, rows, sizes)
    assert len(manifest["shards"]) == 3
    for index, shard in enumerate(manifest["shards"]):
        for site, x in rows.items():
            path = tmp_path / shards.shard_name(site, index)
            assert path.read_bytes() == save({"x": x[8 * index : 8 * index + 8].contiguous()})
            assert sha256_file(path) == shard[site]
    assert not list(tmp_path.rglob(".*"))


def test_rows_need_not_be_contiguous(tmp_path: Path):
    wide = torch.randn(5, 12)
    rows, manifest = {"a": wide[:, ::2], "b": torch.randn(3, 5).T}, begun(5, 5)
    with ShardWriter(tmp_path, manifest, 2) as writer:
        writer.submit(rows)
    for site, x in rows.items():
        assert (tmp_path / shards.shard_name(site, 0)).read_bytes() == save({"x": x.contiguous()})


@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 3), (2**18, 128), (99_999, 4096)])
def test_the_header_is_that_of_the_format(n: int, d: int):
    head = shards.header((n, d), "bfloat16")
    assert (len(head) - 8) % 8 == 0
    assert int.from_bytes(head[:8], "little") == len(head) - 8
    if n * d < 100:
        assert save({"x": torch.zeros(n, d, dtype=torch.bfloat16)}).startswith(head)


def test_an_exception_leaves_whole_shards_and_nothing_else(tmp_path: Path):
    rows, manifest = rows_of(23), begun(23, 8)

    def stopped() -> None:
        with ShardWriter(tmp_path, manifest, 2) as writer:
            submit_in_pieces(writer, rows, [10, 9])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(manifest["shards"]) == 2
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["00000.safetensors", "00001.safetensors"]


def test_what_goes_wrong_on_disk_is_raised_where_rows_are_submitted(tmp_path: Path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    rows, manifest = rows_of(8), begun(800, 8)
    taken: list[int] = []

    def write() -> None:
        with ShardWriter(tmp_path, manifest, 2) as writer:
            for i in range(100):
                writer.submit(rows)
                taken.append(i)

    with pytest.raises(Storage, match="is full; what was complete is kept"):
        write()
    assert len(taken) < 100  # it did not have to wait for the end
    assert manifest["shards"] == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_error_behind_the_last_row_is_raised_at_the_end(tmp_path: Path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with ShardWriter(tmp_path, begun(8, 8), 2) as writer:
            writer.submit(rows_of(8))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Storage):
        write()


def test_the_model_reads_on_while_the_disk_is_busy_until_the_queue_is_full(tmp_path: Path, monkeypatch):
    busy, released, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(handle: int) -> None:
        busy.set()
        assert released.wait(30)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", slow)
    rows, manifest = rows_of(8), begun(80, 8)
    with ShardWriter(tmp_path, manifest, 3) as writer:
        try:
            writer.submit(rows)
            assert busy.wait(30)
            for _ in range(3):
                writer.submit(rows)  # none of these waits
            waiting = threading.Thread(target=writer.submit, args=(rows,))
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()  # the queue is bounded
        finally:
            released.set()
        waiting.join(30)
        for _ in range(5):
            writer.submit(rows)
    assert len(manifest["shards"]) == 10


def test_a_long_file_is_synced_as_it_grows(tmp_path: Path, monkeypatch):
    n_synced, fsync = [0], os.fsync

    def counted(handle: int) -> None:
        n_synced[0] += 1
        fsync(handle)

    monkeypatch.setattr(os, "fsync", counted)
    monkeypatch.setattr(writing, "SYNCED_BYTES", 100)
    file = writing.ShardFile(tmp_path / "s" / "x", b"head")
    for _ in range(10):
        file.append(torch.zeros(5, 3))  # 60 bytes
    assert n_synced[0] == 5
    assert file.close() == sha256_file(tmp_path / "s" / "x")
