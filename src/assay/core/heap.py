"""Memory that a step or a forward pass frees is memory that the next one uses.

By default the C library gives a freed block of a few MiB back to the operating system at once, and the next tensor of that size begins as new
pages: mapping and zeroing them takes longer than what is then computed in it. Only glibc has these two settings, and only blocks of up to
32 MiB obey them; elsewhere nothing changes. Sizes are those of `mallopt(3)`.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 1 << 30  # bytes that may be free at the end of the heap
LARGEST = 1 << 25  # the largest block that may come from the heap; glibc allows no more
SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # how a user sets them


@cache
def keep_freed() -> bool:
    """Keep freed memory in this process, once. Returns whether that is so; what the user said in the environment stands."""
    if any(name in os.environ for name in SAID):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))
