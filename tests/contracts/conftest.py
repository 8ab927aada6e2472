"""`case` runs a test over every architecture; a class may excuse itself from a test by `exceptions = {test:
reason}`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from dictionary_examples import CASES, Case


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    reason = request.param.cls.exceptions.get(request.function.__name__)
    if reason:
        pytest.skip(f"{request.param.arch}: {reason}")
    return request.param


@pytest.fixture(params=[c for c in CASES if c.learned_by_gradient], ids=str)
def learned(request: pytest.FixtureRequest) -> Case:
    """Only the architectures that are trained by gradient."""
    reason = request.param.cls.exceptions.get(request.function.__name__)
    if reason:
        pytest.skip(f"{request.param.arch}: {reason}")
    return request.param


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: threads that wait for each other on a busy machine cost far more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
