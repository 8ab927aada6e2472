"""Small dictionaries in float64 with every parameter away from a special value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from assay.dictionaries import Dictionary, config_class
from assay.dictionaries import class_of as class_of_arch


@pytest.fixture
def made() -> Callable[..., Dictionary]:
    """made(arch, seed=0, **options): d_in 6, d_sae 11 unless said otherwise; random weights and biases."""

    def make(arch: str, seed: int = 0, **options: Any) -> Dictionary:
        rng = torch.Generator().manual_seed(seed)
        dictionary = class_of_arch(arch)(config_class(arch)(**{"d_in": 6, "d_sae": 11, **options})).double()
        with torch.no_grad():
            for parameter in dictionary.parameters():
                noise = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
                parameter.copy_(0.4 * noise + 0.05 if parameter.dim() == 1 else noise)
        return dictionary

    return make


@pytest.fixture
def rows() -> Callable[..., torch.Tensor]:
    """rows(n, seed, width=6): [n, width] float64."""

    def draw(n: int, seed: int, width: int = 6) -> torch.Tensor:
        return torch.randn(n, width, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64) + 0.3

    return draw
