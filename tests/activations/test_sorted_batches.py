"""Ragged blocks sorted by length: little padding, the same rows in the same order, the same values up to rounding."""

from __future__ import annotations

import copy
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.activations import Blocks, LiveSource, harvest, live, pack, shards, unpacked
from assay.activations.live import forward, window_of
from assay.core.errors import Storage

SITES = ["resid_post.0", "mlp_out.1"]


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "provenance.json"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def rows_of(model, blocks: Blocks, chosen: np.ndarray, batch_size: int, window: int):
    got = list(forward(model, blocks, chosen, SITES, batch_size, window))
    rows = np.concatenate([r for r, _ in got])
    return rows, {site: torch.cat([x[site] for _, x in got]) for site in SITES}


@pytest.mark.parametrize(("batch_size", "window"), [(4, 3), (7, 16), (3, 1), (64, 2)])
@pytest.mark.parametrize("every", [1, 3])
def test_rows_and_values_are_those_of_each_block_alone(
    bos_zero, no_bos, encoder, stories, batch_size: int, window: int, every: int
):
    for model in (bos_zero, no_bos, encoder):
        blocks = unpacked(stories, model, context=48)
        chosen = np.arange(1, len(blocks), every)
        rows, got = rows_of(model, blocks, chosen, batch_size, window)
        rows_alone, alone = rows_of(model, blocks, chosen, 1, 1)
        assert np.array_equal(rows, rows_alone)
        for site in SITES:
            torch.testing.assert_close(got[site], alone[site], rtol=1e-4, atol=1e-5)


def test_little_of_what_the_model_reads_is_padding(bos_zero, stories, monkeypatch):
    blocks, sizes, read = unpacked(stories, bos_zero, context=64), [], live.read

    def counted(model, ids, mask, sites, **more):
        sizes.append(ids.numel())
        return read(model, ids, mask, sites, **more)

    monkeypatch.setattr(live, "read", counted)
    wasted = []
    for window in (1, 5, 16):
        sizes.clear()
        for _ in forward(bos_zero, blocks, np.arange(len(blocks)), SITES, 4, window):
            pass
        assert len(sizes) == 10  # as many passes as before
        wasted.append(1 - blocks.table.n_rows / sum(sizes))
    lengths = np.sort(blocks.table.block_rows)[::-1].reshape(10, 4)
    assert wasted[2] == pytest.approx(1 - lengths.sum() / (4 * lengths[:, 0].sum()))
    assert wasted[0] > 0.25 > wasted[1] > wasted[2]
    assert wasted[2] < 0.05


def test_only_ragged_blocks_are_sorted_and_windows_are_bounded(bos_zero, encoder, stories):
    assert window_of(pack(stories, bos_zero, context=16), [16], 4) == 1
    assert (
        window_of(pack(stories, encoder, context=16), [16], 4) == 16
    )  # an encoder reads one piece of a document at a time
    blocks = unpacked(stories, bos_zero, context=32)
    assert window_of(blocks, [16, 16], 4) == 16
    assert window_of(blocks, [2**17], 4) == 4
    assert window_of(blocks, [2**17, 2**17], 4) == 2
    assert window_of(blocks, [2**24], 4) == 1


def test_a_ragged_harvest_stopped_by_a_full_disk_resumes_to_the_same_bytes(encoder, stories, tmp_path, monkeypatch):
    blocks, options = unpacked(stories, encoder, context=32), {"shard_rows": 100, "batch_size": 2, "quiet": True}
    whole = harvest(encoder, SITES, blocks, tmp_path / "whole", **options)
    assert whole.manifest["sorted_batches"] == 16  # 32 of the 40 blocks
    every = np.arange(whole.n_rows)
    _, alone = rows_of(encoder, blocks, np.arange(len(blocks)), 1, 1)
    for site in SITES:
        torch.testing.assert_close(whole.gather(site, every), alone[site], rtol=1e-4, atol=1e-5)
    for n_syncs in (20, 60):
        out, fsync, left = tmp_path / str(n_syncs), os.fsync, [n_syncs]

        def full(handle: int, fsync=fsync, left=left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(Storage):
                harvest(encoder, SITES, blocks, out, **options)
        assert 0 < len(shards.read_manifest(out)["shards"]) < len(whole.manifest["shards"])
        harvest(encoder, SITES, blocks, out, resume=True, **options)
        assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_harvest_begun_without_sorting_goes_on_without(encoder, stories, tmp_path, monkeypatch):
    blocks, options = unpacked(stories, encoder, context=32), {"batch_size": 2, "quiet": True}
    with monkeypatch.context() as patch:
        patch.setattr(live, "MOST_SORTED", 1)
        plain = harvest(encoder, SITES, blocks, tmp_path / "plain", **options)
        assert "sorted_batches" not in plain.manifest
    again = harvest(encoder, SITES, blocks, tmp_path / "plain", resume=True, **options)
    assert again.n_rows == plain.n_rows
    manifest = {**plain.manifest, "shards": [], "complete": False}
    before = bytes_of(tmp_path / "plain")
    shards.write_manifest(tmp_path / "plain", manifest)
    harvest(encoder, SITES, blocks, tmp_path / "plain", resume=True, **options)
    assert bytes_of(tmp_path / "plain") == before


def test_a_live_source_sorts_and_gives_the_rows_asked_for(encoder, stories):
    blocks = unpacked(stories, encoder, context=32)
    source = LiveSource(encoder, blocks, SITES, batch_size=3)
    rows = np.flatnonzero(np.random.default_rng(0).random(blocks.table.n_rows) < 0.2)
    got = source.fetch(rows, SITES)
    _, alone = rows_of(encoder, blocks, np.arange(len(blocks)), 1, 1)
    for site in SITES:
        torch.testing.assert_close(got[site], alone[site][torch.from_numpy(rows)], rtol=1e-4, atol=1e-5)
    again = source.fetch(rows, SITES)
    assert all(got[site].equal(again[site]) for site in SITES)


class TwoProcesses:
    """What `live` asks of the other process, between two threads."""

    def __init__(self) -> None:
        self.own, self.meet, self.given = threading.local(), threading.Barrier(2, timeout=60), [None, None]

    def n_processes(self) -> int:
        return 2

    def rank(self) -> int:
        return self.own.rank

    def leading(self) -> bool:
        return self.own.rank == 0

    def each(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.given[self.own.rank] = x
        self.meet.wait()
        found = list(self.given)
        self.meet.wait()
        return found


def test_two_processes_share_whole_windows_and_give_the_bits_of_one(encoder, stories, monkeypatch):
    blocks, every = unpacked(stories, encoder, context=32), np.arange(40)
    rows, alone = rows_of(encoder, blocks, every, 3, 2)
    two, got = TwoProcesses(), [[], []]

    def work(rank: int, model) -> None:
        two.own.rank = rank
        got[rank] += live.forward_together(model, blocks, every, SITES, 3, 2)

    monkeypatch.setattr(live, "distribution", two)
    threads = [threading.Thread(target=work, args=(rank, copy.deepcopy(encoder))) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[1] == []
    assert np.array_equal(np.concatenate([r for r, _ in got[0]]), rows)
    for site in SITES:
        assert torch.cat([x[site] for _, x in got[0]]).equal(alone[site])
