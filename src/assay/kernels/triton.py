"""The five kernels in Triton, for CUDA GPUs, and for tensors on the CPU under Triton's interpreter (TRITON_INTERPRET=1).

Decoding gathers a row's directions and sums them. The weight gradients do the same by latent, over the pairs sorted by latent: no
floating-point atomics, so a sum has the same bits on every run. Projection, clipping, Adam and unit rows are one pass over the
gradients for their norm and one over everything. The dense product is torch's, in blocks of rows, and the choice among its pairs is
that of `torch.py`: u is computed in full there. `triton_bf16` has another encoder.

Sums are in float64 for float64 tensors, else in float32. Everything is checked before a program is started.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from assay.core.errors import BadInput
from assay.kernels import torch as plain
from assay.kernels import triton_found
from assay.kernels import triton_programs as programs
from assay.kernels.codes import Codes
from assay.kernels.origin import Origin
from assay.kernels.selection import Selection

BLOCK, DENSE_ABOVE = plain.BLOCK_ON_GPU, plain.DENSE_ABOVE
SUMS_FROM = math.inf  # `update` takes whole gradients
"""Elements of u in memory at once."""
PAIRS = 8  # pairs that a program sums at once
MOST_COLUMNS = 256
FLAT = 4096  # numbers that one program of `update` takes where rows do not matter
INTERPRETED = triton_found.interpreted()  # as it was when Triton was imported


def encode_select(x: Tensor, W_enc: Tensor, selection: Selection, origin: Origin | None = None) -> Codes:
    """u = x @ W_enc at the chosen pairs. x [B, n], W_enc [n, F] in any storage order."""
    x = checked("x", x, (-1, -1))
    checked("W_enc", W_enc.t() if W_enc.stride(0) == 1 else W_enc, (-1, -1), x)
    if W_enc.shape[0] != x.shape[1]:
        raise BadInput(f"x has {x.shape[1]} columns, W_enc has {W_enc.shape[0]} rows; they must be equal.")
    return plain.encode_select(x, W_enc.detach(), selection, block=BLOCK)


def decode(codes: Codes, W_dec: Tensor) -> Tensor:
    """sum_i f_bi W_dec[i], without bias: [B, d_out]."""
    W = checked("W_dec", W_dec, (codes.shape[1], -1))
    inside(codes, W)
    if "one after the other" not in codes.index:
        codes.index["one after the other"] = torch.arange(len(codes), device=W.device)
    return _gathered_sums(codes.pointers[1:], codes.latent, codes.value, codes.index["one after the other"], W)


def cotangent(codes: Codes, g: Tensor, W_dec: Tensor) -> Tensor:
    """alpha = g_b . W_dec[i] at the pairs: [nnz]. g [B, d_out]."""
    W = checked("W_dec", W_dec, (codes.shape[1], -1))
    g = checked("g", g, (codes.shape[0], W.shape[1]), W)
    inside(codes, W)
    out = W.new_empty(len(codes))
    width = W.shape[1]
    if len(codes):
        _start(
            programs.products_at_pairs, out, (_blocks(len(codes), PAIRS),),
            codes.row, codes.latent, len(codes), g, g.stride(0), W, W.stride(0), out, width,
            PAIRS=PAIRS, COLUMNS=_columns(width),
        )  # fmt: skip
    return out


def accumulate(codes: Codes, g: Tensor) -> Tensor:
    """sum_b f_bi g_b for every latent: [F, n]. g [B, n]."""
    g = checked("g", g, (codes.shape[0], -1))
    inside(codes, g)
    order, start = codes.by_latent
    if "ends" not in codes.index:
        codes.index["ends"] = torch.cat([start[1:], start.new_full((1,), len(codes))])
    return _gathered_sums(codes.index["ends"], codes.row, codes.value, order, g)


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
    """As `reference.update`, with the norm kept on the device until everything is started."""
    tensors = {n: _as_rows(n, n in unit_rows, params[n], grads[n], first[n], second[n]) for n in params}
    along: dict[str, Tensor | None] = {}
    squares: list[Tensor] = []
    for name, (p, g, _, _, width) in tensors.items():
        n_rows, unit = _blocks(p.numel(), width), name in unit_rows
        squares.append(torch.empty(n_rows, dtype=torch.float64, device=p.device))
        along[name] = torch.empty(n_rows, dtype=_wide(p), device=p.device) if unit else None
        if n_rows:
            _start(
                programs.squared_lengths, p, (n_rows,),
                p, g, p.numel(), width, along[name], squares[-1], PARALLEL=unit, COLUMNS=_row_columns(width),
            )  # fmt: skip
    norm = torch.cat(squares).sum().sqrt()
    told = norm.new_tensor([lr, beta1, beta2, 1 - beta1**step, 1 - beta2**step, eps, 1.0])
    if clip is not None:
        told[-1] = (clip / (norm + 1e-6)).clamp(max=1.0)
    for name, (p, g, m, v, width) in tensors.items():
        if p.numel():
            _start(
                programs.adam, p, (_blocks(p.numel(), width),),
                p, g, m, v, p.numel(), width, along[name], told, UNIT=name in unit_rows, COLUMNS=_row_columns(width),
            )  # fmt: skip
    return float(norm)


def checked(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
    """The tensor itself, if a program may read it: on the GPU, this shape (-1: any), like's dtype and device, elements of a row
    adjacent."""
    if tensor.device.type != "cuda" and not (INTERPRETED and tensor.device.type == "cpu"):
        raise BadInput(f"{name} is on {tensor.device}; the triton kernels need it on a GPU, or choose --kernels torch.")
    if not tensor.dtype.is_floating_point or (like is not None and tensor.dtype != like.dtype):
        wanted = "a floating-point dtype" if like is None else f"{like.dtype} as the others"
        raise BadInput(f"{name} is {tensor.dtype}; expected {wanted}.")
    if like is not None and tensor.device != like.device:
        raise BadInput(f"{name} is on {tensor.device}, the others on {like.device}; put them on one device.")
    fits = tensor.dim() == len(shape) and all(e in (-1, s) for s, e in zip(tensor.shape, shape, strict=True))
    if not fits:
        raise BadInput(f"{name} has shape {tuple(tensor.shape)}; expected {str(shape).replace('-1', 'any')}.")
    if tensor.numel() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        raise BadInput(
            f"{name} has strides {tensor.stride()}; elements of a row must be adjacent, so give it contiguous()."
        )
    return tensor.detach()


def inside(codes: Codes, like: Tensor) -> None:
    """Raises BadInput unless the pairs' ids are 64-bit integers on like's device, within the codes' shape and in row order; the ids
    are looked at once for all codes on the same pairs."""
    for name, tensor in (("row", codes.row), ("latent", codes.latent), ("value", codes.value)):
        if tensor.shape != (len(codes),) or tensor.device != like.device:
            raise BadInput(
                f"{name} has shape {tuple(tensor.shape)} on {tensor.device}; expected {(len(codes),)} on {like.device}."
            )
    if "inside" in codes.index:
        return
    limits = {"row": codes.shape[0], "latent": codes.shape[1]}
    for name, ids in (("row", codes.row), ("latent", codes.latent)):
        if ids.dtype != torch.int64 or not ids.is_contiguous():
            raise BadInput(f"{name} is {ids.dtype} with strides {ids.stride()}; expected contiguous int64.")
    if len(codes):
        seen = torch.stack(
            [*codes.row.aminmax(), *codes.latent.aminmax(), codes.row.diff().clamp(max=0).sum()]
        ).tolist()
        for name, low, high in (("row", *seen[:2]), ("latent", *seen[2:4])):
            if low < 0 or high >= limits[name]:
                raise BadInput(f"A pair has {name} {low if low < 0 else high}; expected 0 to {limits[name] - 1}.")
        if seen[4]:
            raise BadInput("The pairs are not in row order; sort them by row, then latent.")
    codes.index["inside"] = codes.pointers


def _gathered_sums(ends: Tensor, ids: Tensor, values: Tensor, order: Tensor, matrix: Tensor) -> Tensor:
    """out[s] = sum over p in order[ends[s - 1] : ends[s]] of values[p] * matrix[ids[p]]."""
    width = matrix.shape[1]
    out = matrix.new_empty(len(ends), width)
    if out.numel():
        columns = _columns(width)
        _start(
            programs.gathered_sums, out, (len(ends), _blocks(width, columns)),
            ends.contiguous(), ids, values.detach().contiguous(), order, matrix, matrix.stride(0), out, width,
            PAIRS=PAIRS, COLUMNS=columns,
        )  # fmt: skip
    return out


def _as_rows(name: str, unit: bool, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """param, grad, first, second in the parameter's own storage order, and how many numbers one program takes."""
    param, grad, *moments = (t.detach() for t in tensors)
    if param.dim() == 2 and not param.is_contiguous():
        if unit:
            raise BadInput(f"{name} has strides {param.stride()}; a matrix with unit rows must be contiguous.")
        param, grad, moments = param.t(), grad.t(), [m.t() for m in moments]
    shape = tuple(param.shape)
    ready = [param, grad.to(param.dtype).contiguous(), *moments]
    for what, tensor in zip((name, f"gradient of {name}", *[f"moment of {name}"] * 2), ready, strict=True):
        checked(what, tensor, shape, param if tensor is ready[1] else None)
        if not tensor.is_contiguous():
            raise BadInput(f"{what} has strides {tensor.stride()}; expected the storage order of {name}.")
    p, g, m, v = ready
    return p, g, m, v, param.shape[-1] if unit else FLAT


def _start(program: Any, on: Tensor, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Start a program on the device of `on`, which need not be the current one, with arithmetic as wide as its numbers ask for."""
    kind = tl.float64 if on.dtype == torch.float64 else tl.float32
    with torch.cuda.device(on.device if on.is_cuda else -1):
        program[grid](*arguments, **constants, kind=kind)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _blocks(n: int, size: int) -> int:
    return -(-n // max(1, size))


def _columns(width: int) -> int:
    """Columns that a program sums at once: a power of 2, as Triton wants."""
    return min(MOST_COLUMNS, int(triton.next_power_of_2(max(1, width))))


def _row_columns(width: int) -> int:
    """The same where a program has one row and not `PAIRS` of them."""
    return min(8 * MOST_COLUMNS, int(triton.next_power_of_2(max(1, width))))
