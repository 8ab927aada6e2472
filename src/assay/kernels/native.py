"""The five kernels in compiled C++ (`cpp/`), for float32 and float64 on the CPU.

Everything is checked here, so that no call can reach memory that is not its own: a wrong dtype, device, shape or stride, or an id
outside its range, is refused in one sentence. Results do not depend on the number of threads, except that u comes from torch's
matrix product where the 8-bit screen is not used (`screening.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import CDLL, c_double, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput, BadOption
from assay.kernels import buffers, library
from assay.kernels.codes import Codes
from assay.kernels.selection import Selection

DENSE_ABOVE = 0.12  # measured at d=512: both cost the same at 15, 14 and 12 per cent for F = 512, 4096 and 16384
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


def encode_select(x: Tensor, W_enc: Tensor, selection: Selection) -> Codes:
    """u = x @ W_enc at the chosen pairs; see `screening.py`."""
    from assay.kernels import screening

    return screening.encode_select(x, W_enc, selection)


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
    grads: Mapping[str, Tensor],
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
    """As `reference.update`: one pass over the gradients for their norm, one over everything for Adam."""
    rows: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    along: dict[str, Tensor] = {}
    total = 0.0
    for name, param in params.items():
        p, g, m, v = rows[name] = _as_rows(name, param, grads[name], first[name], second[name])
        if name in unit_rows:
            along[name] = p.new_empty(len(p))
        function_ = function("squared_length", p.dtype)
        total += function_(
            at(g),
            at(p if name in along else None),
            c_int64(len(p)),
            c_int64(p.shape[1]),
            at(along.get(name)),
            threads(),
        )
    norm = total**0.5
    shrink = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
    corrections = (1 - beta1**step, 1 - beta2**step)
    for name, (p, g, m, v) in rows.items():
        numbers = [c_double(a) for a in (lr, beta1, beta2, eps, *corrections, shrink)]
        function("adam", p.dtype)(
            at(p), at(g), at(m), at(v), c_int64(len(p)), c_int64(p.shape[1]), at(along.get(name)), *numbers, threads()
        )
    return norm


def _as_rows(name: str, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """param, grad, first, second as contiguous matrices in the parameter's own storage order; vectors as one row."""
    param, grad, *moments = (t.detach() for t in tensors)
    if param.dim() == 2 and not param.is_contiguous():
        param, grad, moments = param.t(), grad.t(), [m.t() for m in moments]
    shape = tuple(param.shape)
    whole(name, param, shape)
    ready = [
        param,
        grad.to(param.dtype).contiguous(),
        *(whole(f"moment of {name}", m, shape, param.dtype) for m in moments),
    ]
    checked(f"gradient of {name}", ready[1], shape, param.dtype)
    p, g, m, v = (t if t.dim() == 2 else t.reshape(1, -1) for t in ready)
    return p, g, m, v


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
