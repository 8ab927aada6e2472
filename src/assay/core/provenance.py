"""Where a result came from: command, versions, machine, data. Written beside every result."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
import time
from datetime import UTC, datetime
from typing import Any

PACKAGES = ("assay", "torch", "numpy", "transformers", "tokenizers", "safetensors", "pyarrow", "scikit-learn")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def collect(**facts: Any) -> dict[str, Any]:
    """What is true of every run (schema, command, time, versions, machine), plus the given facts."""
    return {
        "schema": 1,
        "command": [arg.rsplit("/", 1)[-1] if i == 0 else arg for i, arg in enumerate(sys.argv)],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        **facts,
    }


def seconds() -> float:
    """A clock for costs: wall seconds from an arbitrary start."""
    return time.perf_counter()


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
