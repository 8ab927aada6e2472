"""The native code under AddressSanitizer and UndefinedBehaviorSanitizer, at the shapes where it could step over an edge."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builds import BUILDS

from assay.kernels import library

COMPILER = shutil.which("g++")
FLAGS = {
    "plain": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512vnni": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"],
}


def sanitizer() -> str | None:
    if COMPILER is None:
        return None
    found = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return found if Path(found).is_absolute() else None


@pytest.mark.slow
@pytest.mark.skipif(not BUILDS, reason="no native kernels here")
@pytest.mark.skipif(sanitizer() is None, reason="g++ with libasan is not installed")
@pytest.mark.parametrize("build", BUILDS)
def test_no_byte_outside_and_nothing_undefined(build, tmp_path) -> None:
    out = tmp_path / "sanitized.so"
    subprocess.run(
        [COMPILER, "-std=c++17", "-O1", "-g", "-fopenmp", "-shared", "-fPIC", "-fno-omit-frame-pointer", "-Wno-psabi",
         "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *FLAGS[build], f'-DASSAY_SOURCES="{library.digest()}"',
         str(library.SOURCES / f"{build}.cpp"), "-o", str(out)],
        check=True,
    )  # fmt: skip
    environment = {
        **os.environ, "LD_PRELOAD": sanitizer() or "", "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2",
        "SANITIZED": str(out), "BUILD": build,
    }  # fmt: skip
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "run_shapes.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "all shapes" in done.stdout
