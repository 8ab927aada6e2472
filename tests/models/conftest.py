"""Fixtures over the tiny models. After every test no model may hold a hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from tiny_models import models_with_hooks, tiny_model
from torch import Tensor

from assay.models import Model


@pytest.fixture
def tiny() -> Callable[[str], Model]:
    return tiny_model


@pytest.fixture
def ids() -> Tensor:
    """Token ids [2, 9] without special tokens."""
    return torch.randint(3, 58, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _no_hook_is_left() -> Iterator[None]:
    yield
    assert models_with_hooks() == []
