"""Shared fixtures. Real models and texts live outside the repository; tests that need them skip with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)  # before any work, also for fixtures of a whole session


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: threads that wait for each other on a busy machine cost far more than they give."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real models and texts: $ASSAY_SHARED/data, or shared/data beside the repository."""
    base = Path(os.environ["ASSAY_SHARED"]) if "ASSAY_SHARED" in os.environ else ROOT.parent / "shared"
    if not (base / "data" / "SHA256SUMS").exists():
        pytest.skip(f"real models and texts are not at {base / 'data'}; set ASSAY_SHARED")
    return base / "data"
