"""--threads binds every library that computes: an idle BLAS thread that spins slows everything else down."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import json, numpy, threadpoolctl, torch
from assay.cli.opening import set_threads
set_threads({n})
import scipy.linalg
found = threadpoolctl.threadpool_info()
print(json.dumps([torch.get_num_threads(), [p["num_threads"] for p in found if p["user_api"] == "blas"]]))
"""


def threads(n: int) -> tuple[int, list[int]]:
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(n=n)], capture_output=True, text=True, check=True, env=free
    )
    in_torch, in_blas = json.loads(done.stdout)
    return in_torch, in_blas


def test_one_thread_is_one_thread_in_torch_and_in_every_blas() -> None:
    in_torch, in_blas = threads(1)
    assert in_torch == 1
    assert len(in_blas) >= 2 and set(in_blas) == {1}  # NumPy's, which was loaded before, and SciPy's, which comes after


def test_two_threads_are_two() -> None:
    in_torch, in_blas = threads(2)
    assert in_torch == 2 and set(in_blas) <= {1, 2} and 2 in in_blas
