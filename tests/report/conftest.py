"""Made-up results on disk, and pages made from them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_files import save

from assay.core.outcome import Results
from assay.report import build


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, str]:
    """The results of single dictionaries and the text of their page."""
    folder = tmp_path_factory.mktemp("one") / "demo-1"
    found = save(folder)
    return found, build([folder], folder, picture_files=False).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, str]:
    folder = tmp_path_factory.mktemp("three") / "demo-3"
    found = save(folder, seeds=3)
    return found, build([folder], folder, picture_files=False).read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., str]:
    """Save made-up results with the given options and return the text of their page."""

    def make(name: str = "demo-9", **options: object) -> str:
        save(tmp_path / name, **options)  # pyright: ignore[reportArgumentType]
        return build([tmp_path / name], tmp_path / name, picture_files=False).read_text(encoding="utf-8")

    return make
