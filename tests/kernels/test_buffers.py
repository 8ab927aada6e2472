"""Memory is used again only when nobody can see it any more."""

from __future__ import annotations

import threading

import pytest
import torch
from builds import needs_native

from assay.kernels import Codes, buffers, native

SHAPE = (300, 1001)  # more than buffers.SMALLEST bytes


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch) -> None:
    monkeypatch.setattr(buffers, "_kept", [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_what_is_dropped_is_used_again_and_what_is_held_is_not(dtype) -> None:
    first = buffers.take(SHAPE, dtype)
    assert (first.shape, first.dtype, first.is_contiguous()) == (SHAPE, dtype, True)
    address = first.data_ptr()
    assert address % buffers.ALIGNED == 0
    assert buffers.take(SHAPE, dtype).data_ptr() != address, "it is held"
    view = first.t()[3:]
    del first
    assert buffers.take(SHAPE, dtype).data_ptr() != address, "a view of it is held"
    storage = view.untyped_storage()
    del view
    assert buffers.take(SHAPE, dtype).data_ptr() != address, "its storage is held"
    del storage
    assert buffers.take(SHAPE, dtype).data_ptr() == address


def test_little_is_kept_and_small_tensors_are_not() -> None:
    held = [buffers.take((300, 1000 + i), torch.float32) for i in range(10)]
    held.clear()
    again = buffers.take((300, 2000), torch.float32)
    assert len(buffers._kept) == buffers.MOST_FREE
    buffers.take((10, 10), torch.float32)
    assert len(buffers._kept) == buffers.MOST_FREE
    assert again.shape == (300, 2000)


def test_threads_get_different_memory() -> None:
    taken: list[torch.Tensor] = []
    buffers.take(SHAPE, torch.float32)  # free, for one of them
    threads = [threading.Thread(target=lambda: taken.append(buffers.take(SHAPE, torch.float32))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tensor.data_ptr() for tensor in taken}) == 8


@needs_native
def test_gradients_that_are_kept_stay_what_they_were() -> None:
    codes = Codes.of((torch.arange(700 * 3).reshape(3, 700) % 5).float())
    g = torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    kept = native.accumulate(codes, g)
    copy, address = kept.clone(), kept.data_ptr()
    other = native.accumulate(codes, -g)
    assert torch.equal(kept, copy)
    assert torch.equal(other, -copy)
    del kept
    assert native.accumulate(codes, g).data_ptr() == address
