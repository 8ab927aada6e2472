"""Streams over a small planted world: 24 directions in 12 dimensions, few of them on in a row,
off centre and not at scale 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from assay.activations.source import TensorSource
from assay.activations.stream import Stream

D, N_TRUE = 12, 24


def planted(n: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    """[n, 12] float32: sparse sums of fixed unit directions plus a constant."""
    directions = torch.nn.functional.normalize(torch.randn(N_TRUE, D, generator=torch.Generator().manual_seed(99)))
    rng = torch.Generator().manual_seed(seed)
    on = torch.rand(n, N_TRUE, generator=rng) < 0.08
    return scale * ((on * (1 + torch.rand(n, N_TRUE, generator=rng))) @ directions + 0.3)


@pytest.fixture(scope="session")
def world() -> Callable[..., torch.Tensor]:
    return planted


@pytest.fixture
def stream() -> Callable[..., Stream]:
    """stream(n=2000, batch_size=32, seed=0, scale=3.0, target=False):
    rows at the site "x" (and "y", their mirror image)."""

    def make(n: int = 2000, batch_size: int = 32, seed: int = 0, scale: float = 3.0, target: bool = False) -> Stream:
        x = planted(n, seed, scale)
        tensors = {"x": x, **({"y": 0.25 * x.flip(1)[:, :7] - 1} if target else {})}
        return Stream(TensorSource(tensors), seed=seed, batch_size=batch_size)

    return make
