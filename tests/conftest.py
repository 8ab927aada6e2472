"""Shared fixtures. Real models and texts live outside the repository; tests that need them skip with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)  # tiny tensors: a second thread only waits


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real models and texts: $ASSAY_SHARED/data, or shared/data beside the repository."""
    base = Path(os.environ["ASSAY_SHARED"]) if "ASSAY_SHARED" in os.environ else ROOT.parent / "shared"
    if not (base / "data" / "SHA256SUMS").exists():
        pytest.skip(f"real models and texts are not at {base / 'data'}; set ASSAY_SHARED")
    return base / "data"
