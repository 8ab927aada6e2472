"""The Triton kernels without a GPU: their cases under Triton's interpreter, their machine code, and how they are found and refused.

TRITON_INTERPRET has to be set before Triton is imported, so both run in processes of their own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assay import kernels
from assay.cli.doctor import examine
from assay.core.errors import BadOption
from assay.kernels import triton_found

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed here")


def run(*arguments: str, **environment: str) -> str:
    """What this Python prints in a process of its own, which must end well."""
    clean = {n: v for n, v in os.environ.items() if n != triton_found.INTERPRET and not n.startswith("PYTEST_")}
    told = {**clean, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, *arguments], env=told, cwd=HERE, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


@needs_triton
def test_every_case_under_the_interpreter() -> None:
    said = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "triton_cases.py",
        "triton_bf16_cases.py",
        TRITON_INTERPRET="1",
    )
    summary = said.strip().splitlines()[-1]
    assert "skipped" not in said
    assert summary.endswith("[100%]") or "passed" in summary


@needs_triton
@pytest.mark.parametrize(
    ("capability", "numbers"),
    [("90", ["fp32"]), pytest.param("80", ["fp32", "fp64", "bf16"], marks=pytest.mark.slow)],
    ids=["H100", "A100"],
)
def test_every_program_compiles_to_machine_code(capability, numbers, tmp_path) -> None:
    if importlib.util.find_spec("triton.backends.nvidia") is None:
        pytest.skip("this Triton has no compiler for NVIDIA GPUs")
    said = run("triton_compiles.py", capability, *numbers, TRITON_CACHE_DIR=str(tmp_path))
    assert len(said.splitlines()) == 10 * len(numbers), "two programs in two forms, two in three"


def test_triton_is_imported_only_when_it_is_used() -> None:
    run("-c", "import sys, assay.kernels, assay.dictionaries, assay.training; assert 'triton' not in sys.modules")


@pytest.fixture
def forgotten():
    """The trial is made anew, before and after."""
    triton_found.trial.cache_clear()
    yield
    triton_found.trial.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_why_it_cannot_be_used(monkeypatch) -> None:
    monkeypatch.delenv(triton_found.INTERPRET, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(BadOption, match=r"triton kernels cannot be used: there is no GPU .* Choose torch"):
        kernels.implementation("triton")
    with pytest.raises(BadOption, match="triton_bf16 kernels cannot be used: there is no GPU"):
        kernels.implementation("triton_bf16")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    triton_found.trial.cache_clear()
    with pytest.raises(BadOption, match="Triton is not installed"):
        kernels.implementation("triton")


@pytest.mark.usefixtures("forgotten")
def test_a_gpu_whose_trial_fails_gets_torch(monkeypatch) -> None:
    """A tensor that says it is on a GPU: what `auto` takes for it depends on the trial, its precision and its graph."""

    class OnGPU(torch.Tensor):
        is_cuda = True
        device = torch.device("cuda")

    def like(dtype: torch.dtype = torch.float32) -> OnGPU:
        return torch.zeros(3, dtype=dtype).as_subclass(OnGPU)

    plain = kernels.implementation("torch")
    monkeypatch.setattr(triton_found, "trial", lambda: "the triton kernels fail here: no")
    assert kernels.implementation("auto", like=like()) is plain
    assert kernels.describe("auto", like=like()) == ("torch", "the triton kernels fail here: no")
    with pytest.raises(BadOption, match="triton kernels cannot be used: the triton kernels fail here: no"):
        kernels.implementation("triton")
    monkeypatch.setattr(triton_found, "trial", lambda: "")
    assert kernels.implementation("auto", like=like(torch.float64)) is plain
    assert kernels.implementation("auto", like=like().requires_grad_()) is plain
    taken: list[str] = []
    monkeypatch.setattr(kernels.importlib, "import_module", taken.append)
    kernels.implementation("auto", like=like())
    assert taken == ["assay.kernels.triton"]


def test_the_doctor_says_it(monkeypatch) -> None:
    monkeypatch.setattr(triton_found, "trial", lambda: "there is no GPU for Triton")
    assert examine()["triton"] == ("no", "there is no GPU for Triton")
    monkeypatch.setattr(triton_found, "trial", lambda: "")
    assert examine()["triton"] == ("yes", "GPU kernels, tried once just now: they compile and give the right numbers")
