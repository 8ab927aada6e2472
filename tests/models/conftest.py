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


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_hook_is_left() -> Iterator[None]:
    yield
    assert models_with_hooks() == []
