"""Named random generators from one seed.

Every use of randomness names itself (`torch_rng(seed, "init", "gated")`), so that adding one use never changes another and
a resumed run needs no generator state: the name holds the step.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name and on their order."""
    text = "\x1f".join([str(int(seed)), *(f"{type(n).__name__}:{n}" for n in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_rng(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator; random numbers are drawn on the CPU and moved, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(seed_of(seed, *names))


def numpy_rng(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(seed_of(seed, *names))
