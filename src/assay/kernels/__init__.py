"""The five kernels of the step contract, and the implementations of them to choose from.

    encode_select(x, W_enc, selection, origin) -> Codes      u on its support; origin: what x shares with other encoders' rows
    decode(codes, W_dec) -> [B, d_out]
    cotangent(codes, g, W_dec) -> [nnz]
    accumulate(codes, g) -> [F, n]
    update(params, grads, first, second, ...)        projection, clipping, Adam, unit rows

Each also states DENSE_ABOVE, the share of active pairs above which a step on all pairs by autograd is faster than these kernels, and
SUMS_FROM, the elements of a matrix from which a step is faster if its gradient is left to `update` (`sums.py`).

`implementation("reference")` defines the truth; `torch` runs everywhere; `native` is compiled where a compiler was found when assay was
installed; `triton` is for CUDA GPUs, and `triton_bf16` is the same with an encoder that multiplies in bfloat16 first and then settles
the choice in float32. No architecture knows which is in use. The variable ASSAY_KERNELS names the one that `auto` stands for.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from torch import Tensor, float32, float64, is_grad_enabled

from assay.core.errors import BadOption, nearest
from assay.kernels import library, triton_found
from assay.kernels.codes import Codes
from assay.kernels.origin import Origin, Shared
from assay.kernels.selection import Above, BatchTop, Selection, Top
from assay.kernels.sums import Sums

KNOWN = ("reference", "torch", "native", "triton", "triton_bf16")
TRITON = ("triton", "triton_bf16")
IMPLEMENTATIONS = (
    "reference",
    "torch",
    *(("native",) if library.find().library is not None else ()),
    *(TRITON if triton_found.interpreted() and not triton_found.why_not() else ()),
)
"""Those that take tensors on the CPU here: the triton ones only under Triton's interpreter."""
VARIABLE = "ASSAY_KERNELS"

__all__ = [
    "IMPLEMENTATIONS", "Above", "BatchTop", "Codes", "Origin", "Selection", "Shared", "Sums", "Top", "describe", "implementation",
]  # fmt: skip


def implementation(name: str = "auto", like: Tensor | None = None) -> ModuleType:
    """The module that holds the five kernels. `auto` is the fastest that works here, for tensors such as `like`: native takes
    float32 and float64 on the CPU and triton float32 on a GPU; neither makes a graph, so torch serves where gradients are on."""
    name = _resolved(name)
    if name == "auto":
        name = "native" if "native" in IMPLEMENTATIONS and (like is None or _takes(like)) else "torch"
        if like is not None and _for_triton(like) and not triton_found.trial():
            name = "triton"
    if name in TRITON and (why := triton_found.trial()):
        raise BadOption(f"The {name} kernels cannot be used: {why}. Choose torch, which gives the same results.")
    if name == "native" and name not in IMPLEMENTATIONS:
        raise BadOption(
            f"The native kernels cannot be used: {library.find().why}. Choose torch, which gives the same results."
        )
    return importlib.import_module(f"assay.kernels.{name}")


def describe(name: str = "auto", like: Tensor | None = None) -> tuple[str, str]:
    """(what is in use, why): ("native avx2", ""), ("torch", "the native kernels were not compiled ...")."""
    used, asked, found = implementation(name, like).__name__.rsplit(".", 1)[-1], _resolved(name), library.find()
    if used == "native":
        return f"native {library.WORDS[found.name]}", found.why.partition("; ")[2]
    if asked != "auto":
        return used, f"{VARIABLE}={asked} says so" if name == "auto" else "asked for"
    if used == "triton":
        return used, ""
    if like is not None and like.is_cuda:
        return used, triton_found.trial() or "the triton kernels are used for float32 on a GPU"
    return used, found.why if found.library is None else "the native kernels take float32 and float64 on the CPU"


def _resolved(name: str) -> str:
    said = os.environ.get(VARIABLE) or "auto"
    for value, where in ((name, ""), (said, f"{VARIABLE}: ")):
        if value not in ("auto", *KNOWN):
            raise BadOption(f'{where}"{value}" is not a kernel implementation.{nearest(value, ("auto", *KNOWN))}')
    return said if name == "auto" else name


def _takes(tensor: Tensor) -> bool:
    plain = tensor.device.type == "cpu" and tensor.dtype in (float32, float64)
    return plain and not (is_grad_enabled() and tensor.requires_grad)


def _for_triton(tensor: Tensor) -> bool:
    return tensor.is_cuda and tensor.dtype == float32 and not (is_grad_enabled() and tensor.requires_grad)
