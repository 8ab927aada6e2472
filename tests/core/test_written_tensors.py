"""Tensors are written from where they lie: the same bytes as before, readable by others, no second copy in memory, full disks in words."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from assay.core import artefact
from assay.core.errors import Storage


def tensors() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "W": torch.randn(5, 7, generator=rng).t(),
        "n": torch.arange(3),
        "none": torch.zeros(0, 4),
        "half": torch.randn(6, generator=rng).half(),
    }


def test_the_file_is_that_of_the_library_and_others_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        artefact.write_tensors(tmp_path / "a.safetensors", tensors(), {"made": "here"})
    finally:
        os.umask(before)
    plain = {name: t.contiguous() for name, t in tensors().items()}
    assert (tmp_path / "a.safetensors").read_bytes() == save(plain, metadata={"made": "here"})
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failure_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    path = tmp_path / "a.safetensors"
    artefact.write_tensors(path, tensors())
    whole = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(Storage, match="is full"):
        artefact.write_tensors(path, {"other": torch.ones(3)})
    assert path.read_bytes() == whole and len(list(tmp_path.iterdir())) == 1


WRITE = """
import resource, sys, torch
from pathlib import Path
from assay.core import artefact
x = torch.ones(20_000_000)                                             # 80 MB
artefact.write_tensors(Path(sys.argv[1]) / "warm.safetensors", {"x": torch.ones(3)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
artefact.write_tensors(Path(sys.argv[1]) / "x.safetensors", {"x": x})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted in kilobytes on Linux alone")
def test_writing_copies_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) < 20_000_000, f"80 MB were written with {int(done.stdout):,} bytes more"
