"""The five kernels in compiled C++ (`cpp/`), for float32 and float64 on the CPU.

Everything is checked here, so that no call can reach memory that is not its own: a wrong dtype, device, shape or stride, or an id
outside its range, is refused in one sentence. Results do not depend on the number of threads, except that u comes from torch's
matrix product where the 8-bit screen is not used (`screening.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import CDLL, c_double, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput, BadOption
from assay.kernels import buffers, library
from assay.kernels.codes import Codes
from assay.kernels.origin import Origin
from assay.kernels.selection import Selection
from assay.kernels.sums import Sums

DENSE_ABOVE = 0.12  # measured at d=512: both cost the same at 15, 14 and 12 per cent for F = 512, 4096 and 16384
SUMS_FROM = 5 << 20  # measured at d=512, B=2048, k=32: 4 % slower at 2^21, as fast at 5 * 2^20, 6 % faster at 2^23
NAMES = {torch.float32: "f32", torch.float64: "f64"}


def loaded() -> CDLL:
    """The compiled library. Raises BadOption where there is none."""
    found = library.find()
    if found.library is None:
        raise BadOption(f"The native kernels cannot be used: {found.why}. Choose torch, which gives the same results.")
    return found.library


def checked(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """The tensor itself, if the library may read it: on the CPU, this shape (-1: any), this dtype, elements of a row adjacent."""
    wanted = NAMES if dtype is None else (dtype,)
    if tensor.device.type != "cpu":
        raise BadInput(
            f"{name} is on {tensor.device}; the native kernels need it on the CPU, or choose --kernels torch."
        )
    if tensor.dtype not in wanted:
        words = " or ".join(str(d).removeprefix("torch.") for d in wanted)
        raise BadInput(
            f"{name} is {tensor.dtype}; the native kernels need {words} here, the same for all, or --kernels torch."
        )
    fits = tensor.dim() == len(shape) and all(e in (-1, s) for s, e in zip(tensor.shape, shape, strict=True))
    if not fits:
        expected = str(shape).replace("-1", "any")
        raise BadInput(f"{name} has shape {tuple(tensor.shape)}; expected {expected}.")
    if tensor.dim() and tensor.numel() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        raise BadInput(
            f"{name} has strides {tensor.stride()}; elements of a row must be adjacent, so give it contiguous()."
        )
    return tensor.detach()


def whole(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """As `checked`, rows adjacent as well."""
    tensor = checked(name, tensor, shape, dtype)
    if not tensor.is_contiguous():
        raise BadInput(f"{name} has strides {tensor.stride()}; its rows must be adjacent, so give it contiguous().")
    return tensor


def row_stride(tensor: Tensor) -> int:
    """Elements between two rows. Raises BadInput where rows overlap or run backwards."""
    stride = tensor.stride(0) if tensor.shape[0] > 1 else tensor.shape[1]
    if stride < tensor.shape[1]:
        raise BadInput(f"A matrix has strides {tensor.stride()}; its rows overlap, so give it contiguous().")
    return stride


def at(tensor: Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())


def threads() -> c_int:
    return c_int(torch.get_num_threads())


def function(name: str, dtype: torch.dtype) -> Any:
    return getattr(loaded(), f"assay_{name}_{NAMES[dtype]}")


def encode_select(x: Tensor, W_enc: Tensor, selection: Selection, origin: Origin | None = None) -> Codes:
    """u = x @ W_enc at the chosen pairs; see `screening.py`."""
    from assay.kernels import screening

    return screening.encode_select(x, W_enc, selection, origin)


def decode(codes: Codes, W_dec: Tensor) -> Tensor:
    W, (pointers, latent, value) = whole("W_dec", W_dec, (codes.shape[1], -1)), _rows(codes, W_dec.dtype)
    out = W.new_empty(codes.shape[0], W.shape[1])
    function("decode", W.dtype)(
        at(pointers), at(latent), at(value), c_int64(len(out)), at(W), c_int64(W.shape[1]), at(out), threads()
    )
    return out


def cotangent(codes: Codes, g: Tensor, W_dec: Tensor) -> Tensor:
    W, (pointers, latent, _) = whole("W_dec", W_dec, (codes.shape[1], -1)), _rows(codes, W_dec.dtype)
    g = checked("g", g, (codes.shape[0], W.shape[1]), W.dtype)
    out = W.new_empty(len(codes))
    function("cotangent", W.dtype)(
        at(pointers), at(latent), c_int64(len(g)), at(g), c_int64(row_stride(g)), at(W), c_int64(W.shape[1]), at(out), threads()
    )  # fmt: skip
    return out


def accumulate(codes: Codes, g: Tensor) -> Tensor:
    """A tensor [F, n] whose memory is used again once nobody holds it (`buffers.py`)."""
    g = checked("g", g, (codes.shape[0], -1))
    order, ends, row, value = _columns(codes, g.dtype)
    F, n = codes.shape[1], g.shape[1]
    out = buffers.take((F, n), g.dtype)
    function("accumulate", g.dtype)(
        at(order),
        at(ends),
        at(row),
        at(value),
        c_int64(F),
        at(g),
        c_int64(row_stride(g)),
        c_int64(n),
        at(out),
        threads(),
    )
    return out


def update(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor | Sums],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    clip: float | None,
    unit_rows: tuple[str, ...] = (),
) -> float:
    """As `reference.update`: one pass over the gradients for their norm, one over everything for Adam. Gradients that are not summed
    yet (`Sums`) are summed in both, a row at a time: the same bits as of `accumulate`."""
    ready = {name: _ready(name, param, grads[name], first[name], second[name]) for name, param in params.items()}
    along = {name: ready[name].param.new_empty(len(ready[name].param)) for name in unit_rows}
    total = 0.0
    for name, one in ready.items():
        n, width = one.param.shape
        total += function(f"squared_length{one.suffix}", one.param.dtype)(
            *one.gradient, at(one.param if name in along else None), c_int64(n), c_int64(width), at(along.get(name)), threads()
        )  # fmt: skip
    norm = total**0.5
    shrink = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
    numbers = [c_double(a) for a in (lr, beta1, beta2, eps, 1 - beta1**step, 1 - beta2**step, shrink)]
    for name, one in ready.items():
        n, width = one.param.shape
        function(f"adam{one.suffix}", one.param.dtype)(
            at(one.param), *one.gradient, at(one.first), at(one.second), c_int64(n), c_int64(width), at(along.get(name)), *numbers, threads()
        )  # fmt: skip
    return norm


@dataclass(frozen=True)
class _Ready:
    """A parameter and its moments as contiguous matrices, vectors as one row, and its gradient as the library takes it; `kept` holds the
    memory that `gradient` points to."""

    param: Tensor
    first: Tensor
    second: Tensor
    gradient: tuple[c_void_p | c_int64, ...]
    suffix: str
    kept: tuple[Tensor, ...]


def _ready(name: str, param: Tensor, grad: Tensor | Sums, first: Tensor, second: Tensor) -> _Ready:
    """Everything in the parameter's own storage order. Raises BadInput where shapes, dtypes or strides do not fit."""
    turned = grad.transposed if isinstance(grad, Sums) else param.dim() == 2 and not param.is_contiguous()
    p, m, v = ((t.detach().t() if turned else t.detach()) for t in (param, first, second))
    shape = tuple(p.shape)
    whole(name, p, shape)
    for moment in (m, v):
        whole(f"moment of {name}", moment, shape, p.dtype)
    p, m, v = (t if t.dim() == 2 else t.reshape(1, -1) for t in (p, m, v))
    if isinstance(grad, Sums):
        rows = (grad.codes.shape[1], grad.g.shape[1])
        if rows != shape:
            raise BadInput(f"The gradient of {name} sums to {rows}; expected {shape}.")
        g = checked(f"gradient of {name}", grad.g, (grad.codes.shape[0], -1), p.dtype)
        order, ends, row, value = kept = _columns(grad.codes, p.dtype)
        gradient = (at(order), at(ends), at(row), at(value), at(g), c_int64(row_stride(g)))
        return _Ready(p, m, v, gradient, "_of_sums", (*kept, g))
    plain = (grad.detach().t() if turned else grad.detach()).to(p.dtype).contiguous()
    checked(f"gradient of {name}", plain, shape, p.dtype)
    return _Ready(p, m, v, (at(plain),), "", (plain,))


def _rows(codes: Codes, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """pointers, latent and value of codes whose ids are within their shape."""
    if "inside" not in codes.index:
        for name, ids, limit in (("latent", codes.latent, codes.shape[1]), ("row", codes.row, codes.shape[0])):
            whole(name, ids, (len(codes),), torch.int64)
            bad = loaded().assay_first_outside(at(ids), c_int64(len(ids)), c_int64(limit))
            if bad >= 0:
                raise BadInput(f"Pair {bad} has {name} {int(ids[bad])}; expected 0 to {limit - 1}.")
        if (back := (codes.row[1:] < codes.row[:-1]).nonzero()).numel():
            at_ = int(back[0]) + 1
            raise BadInput(
                f"Pair {at_} has row {int(codes.row[at_])} after row {int(codes.row[at_ - 1])}; pairs must be in row order."
            )
        codes.index["inside"] = whole("pointers", codes.pointers, (codes.shape[0] + 1,), torch.int64)
    value = codes.value.detach().to(dtype).contiguous()
    return codes.index["inside"], codes.latent, whole("value", value, tuple(codes.latent.shape))


def _columns(codes: Codes, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """order, where each latent's pairs begin and end [F + 1], row and value, checked."""
    _, latent, value = _rows(codes, dtype)
    if "ends" not in codes.index:
        order, ends = torch.empty_like(latent), latent.new_empty(codes.shape[1] + 1)
        loaded().assay_by_latent(at(latent), c_int64(len(latent)), c_int64(codes.shape[1]), at(order), at(ends))
        codes.index.update({"order": order, "start": ends[:-1], "ends": ends})
    return codes.index["order"], codes.index["ends"], codes.row, value
