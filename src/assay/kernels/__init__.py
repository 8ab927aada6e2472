"""The five kernels of the step contract, and the implementations of them to choose from.

    encode_select(x, W_enc, selection) -> Codes      u on its support
    decode(codes, W_dec) -> [B, d_out]
    cotangent(codes, g, W_dec) -> [nnz]
    accumulate(codes, g) -> [F, n]
    update(params, grads, first, second, ...)        projection, clipping, Adam, unit rows

`implementation("reference")` defines the truth; `implementation("torch")` runs everywhere. No architecture knows which is in use.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from assay.core.errors import BadOption, nearest
from assay.kernels.codes import Codes
from assay.kernels.selection import Above, BatchTop, Selection, Top

IMPLEMENTATIONS = ("reference", "torch")

__all__ = ["IMPLEMENTATIONS", "Above", "BatchTop", "Codes", "Selection", "Top", "implementation"]


def implementation(name: str = "auto") -> ModuleType:
    """The module that holds the five kernels. `auto` is the fastest that works here."""
    if name == "auto":
        name = "torch"
    if name not in IMPLEMENTATIONS:
        raise BadOption(f'"{name}" is not a kernel implementation.{nearest(name, IMPLEMENTATIONS)}')
    return importlib.import_module(f"assay.kernels.{name}")
