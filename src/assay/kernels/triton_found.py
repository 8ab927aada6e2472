"""Whether the Triton kernels can be used here, and why not. Nothing here imports Triton until it is asked to try it."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

from assay.kernels.codes import Codes

INTERPRET = "TRITON_INTERPRET"


def why_not() -> str:
    """One phrase that says why Triton kernels cannot run here, without trying; empty when they may."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install triton (Linux)"
    if interpreted() or torch.cuda.is_available():
        return ""
    return f"there is no GPU for Triton; {INTERPRET}=1 runs its kernels on the CPU, slowly, to test them"


def interpreted() -> bool:
    """Whether TRITON_INTERPRET asks for Triton's interpreter."""
    return os.environ.get(INTERPRET, "0").lower() in ("1", "true", "on", "y", "yes")


@cache
def trial() -> str:
    """As `why_not`, after running every kernel once on numbers whose answer is known. It compiles them, which takes seconds the
    first time on a machine. Whatever goes wrong is an answer here, since there are other kernels to use instead."""
    if why := why_not():
        return why
    try:
        return _tried("cuda" if torch.cuda.is_available() else "cpu")
    except Exception as error:
        return f"the triton kernels fail here: {type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"


def _tried(device: str) -> str:
    kernel = importlib.import_module("assay.kernels.triton")
    reference = importlib.import_module("assay.kernels.reference")
    ids = torch.arange(24, device=device)
    codes = Codes(ids // 4, ids % 4 * 2 + ids // 4 % 2, (ids % 5 - 2).float(), (6, 8))
    wide, g = (_numbers(*shape, device=device) for shape in ((8, 19), (6, 19)))
    pairs = {
        "decode": [k.decode(codes, wide) for k in (kernel, reference)],
        "cotangent": [k.cotangent(codes, g, wide) for k in (kernel, reference)],
        "accumulate": [k.accumulate(codes, g) for k in (kernel, reference)],
    }
    states: list[Tensor] = []
    for k in (kernel, reference):
        params, grads = {"W": wide + 1, "b": g[0] + 1}, {"W": wide.flip(0), "b": g[1].clone()}
        first, second = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
        k.update(
            params, grads, first, second, step=1, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-3, clip=1.0, unit_rows=("W",)
        )
        states.append(torch.cat([t.flatten() for t in (*params.values(), *first.values(), *second.values())]))
    pairs["update"] = states
    for name, (found, expected) in pairs.items():
        if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
            return f"the triton kernel {name} gives other numbers than the definition: {float((found - expected).abs().max()):.3g} off"
    return ""


def _numbers(*shape: int, device: str) -> Tensor:
    n = torch.Size(shape).numel()
    return ((torch.arange(n, device=device) * 37 % 101 - 50).float() / 40).reshape(shape)
