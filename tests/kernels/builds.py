"""The builds of the native kernels that were compiled and that this processor runs, to test each of them."""

from __future__ import annotations

import pytest

from assay.kernels import library

BUILDS = [name for name in library.NEEDS if library.open_build(name).library is not None]
needs_native = pytest.mark.skipif(not BUILDS, reason=f"no native kernels here: {library.find().why}")
every_build = pytest.mark.parametrize("build", BUILDS or ["none"])


def use(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the native kernels run on this build."""
    found = library.open_build(build)
    monkeypatch.setattr(library, "find", lambda: found)
