"""Memory for results that are made again at every step, kept when they are dropped.

A fresh tensor of some MiB is fresh pages of the operating system: zeroing and mapping them takes longer than some kernels that write
to it. Memory is given out again only once no tensor, view or storage refers to it any more, so whoever keeps a result keeps it whole.
"""

from __future__ import annotations

import math
import sys
from threading import Lock

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1 << 20  # bytes; below this the allocator of the system keeps pages itself
MOST_FREE = 4  # that are kept while nobody uses them
ALIGNED = 64  # bytes: a vector register
_ITEM = {torch.float32: 4, torch.float64: 8}
_kept: list[np.ndarray] = []
_lock = Lock()


def take(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the CPU, contiguous, of float32 or float64."""
    n_bytes = math.prod(shape) * _ITEM[dtype]
    if n_bytes < SMALLEST:
        return torch.empty(shape, dtype=dtype)
    with _lock:
        free = [memory for memory in _kept if sys.getrefcount(memory) == FREE]
        memory = next((m for m in free if m.nbytes == n_bytes + ALIGNED), None)
        if memory is None:
            drop = {id(m) for m in free[: max(0, len(free) - MOST_FREE + 1)]}
            _kept[:] = [m for m in _kept if id(m) not in drop]
            memory = np.empty(n_bytes + ALIGNED, np.uint8)
            _kept.append(memory)
        start = -memory.ctypes.data % ALIGNED
        whole = torch.from_numpy(memory[start : start + n_bytes])
        return whole.view(dtype).view(shape)


def _references_of_free() -> int:
    kept = [np.empty(1, np.uint8)]
    return next(sys.getrefcount(memory) for memory in kept)


FREE = _references_of_free()
"""What `sys.getrefcount` says of memory that only the list holds."""
