"""assay: take the activations of neural networks apart, and say what each part is worth.

`import assay` costs no torch import; the parts load when they are first touched (`assay.models`, `assay.dictionaries`, ...).
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

PARTS = (
    "activations", "baselines", "cli", "core", "dictionaries", "evaluation", "interop", "kernels", "metrics", "models",
    "report", "training", "worlds",
)  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in PARTS:
        return importlib.import_module(f"assay.{name}")
    raise AttributeError(f"module 'assay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *PARTS])
