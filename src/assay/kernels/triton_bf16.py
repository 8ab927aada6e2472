"""The triton kernels with another encoder: one product in bfloat16 says which pairs can be chosen, float32 says which are.

Weights and activations stay in float32; what is rounded to bfloat16 only screens. With z = z16 + rest_z and w = w16 + rest_w

    | z . w - z16 . w16 |  <=  |rest_z| |w| + |z16| |rest_w|                       (Cauchy-Schwarz)

to which the rounding of the sums and of the product's bfloat16 result is added. So each pair has an upper and a lower end. For Top, a
pair whose upper end lies below k lower ends of its row cannot be chosen; with a threshold, one whose upper end lies below it. u of
all other pairs is computed in float32 (the kernel `cotangent`, on x and the encoder's rows) and they are chosen among by it: the
chosen set is exact by construction, as with `native`'s 8-bit screen. Blocks of rows with too many candidates, or with numbers that
are not finite, are computed in full. All this depends on the numbers alone, never on time.

A batch is screened if it is float32 and W_enc is stored latent-major; else the encoder is `triton`'s.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from assay.kernels import torch as plain
from assay.kernels import triton as full
from assay.kernels.codes import Codes
from assay.kernels.origin import Origin
from assay.kernels.selection import Above, BatchTop, Selection, Top, keys
from assay.kernels.triton import accumulate, cotangent, decode, update

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["accumulate", "cotangent", "decode", "encode_select", "update"]

BLOCK, DENSE_ABOVE = plain.BLOCK_ON_GPU, plain.DENSE_ABOVE
SUMS_FROM = math.inf  # `update` takes whole gradients
"""Elements of u in memory at once."""
ROUNDING = 2.0**-8  # largest relative error of a number rounded to bfloat16
SUM = (
    2.0**-22
)  # of |z| |w| for each element: float32 sums of both products, also where a GPU cuts off instead of rounding
MOST = 1 / 16  # share of a block's pairs that may be candidates before it is computed in full
SAMPLE = 128  # rows from which the level of a selection over the batch is guessed


def encode_select(x: Tensor, W_enc: Tensor, selection: Selection, origin: Origin | None = None) -> Codes:
    """u = x @ W_enc at the chosen pairs. x [B, n], W_enc [n, F]."""
    if x.dtype != torch.float32 or not W_enc.t().is_contiguous():
        return full.encode_select(x, W_enc, selection)
    x, W = full.checked("x", x, (-1, W_enc.shape[0])), full.checked("W_enc", W_enc.t(), (-1, -1), x)
    if not isinstance(selection, BatchTop):
        return _collected(x, W, selection, 0.0)
    wanted = selection.k * len(x)
    level = _level(x, W, selection)
    codes = _collected(x, W, selection, level)
    if len(codes) < wanted and level > 0:  # the guess was too high
        return full.encode_select(x, W_enc, selection)
    key = _keys(codes, selection)
    keep = torch.zeros(len(codes), dtype=torch.bool, device=x.device)
    keep[torch.sort(key, descending=True, stable=True).indices[:wanted]] = (
        True  # stable: ties to the lower row and latent
    )
    return _kept(codes, keep & (key > 0))


def _collected(x: Tensor, W: Tensor, selection: Selection, level: float) -> Codes:
    """The pairs that `selection` chooses; for BatchTop all whose key is above `level`. W [F, n]."""
    F = len(W)
    W16, length, rest = _halved(W)
    n_rows = max(1, BLOCK // F)
    parts: list[Codes] = []
    for start in range(0, max(1, len(x)), n_rows):
        some = x[start : start + n_rows]
        codes = _candidates(some, W16, length, rest, selection, level)
        if codes is None:
            some_codes = _in_full(some, W, selection, level)
        else:
            u = cotangent(codes, some, W)
            some_codes = _chosen(codes.with_values(u), selection, level)
        parts.append(Codes(some_codes.row + start, some_codes.latent, some_codes.value, (len(x), F)))
    row, latent, value = (torch.cat([getattr(p, name) for p in parts]) for name in ("row", "latent", "value"))
    return Codes(row, latent, value, (len(x), F))


def _halved(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """rows [n, d] in bfloat16, their lengths [n], and the lengths of what rounding took off [n]."""
    rounded = rows.bfloat16()
    norm = torch.linalg.vector_norm
    rest = torch.cat([norm(a - b, dim=1) for a, b in zip(rows.split(1 << 14), rounded.split(1 << 14), strict=True)])
    return rounded, norm(rows, dim=1), rest


def _candidates(
    x: Tensor, W16: Tensor, length: Tensor, rest: Tensor, selection: Selection, level: float
) -> Codes | None:
    """The pairs of these rows that may be chosen, values 0; None where the rows are to be computed in full."""
    x16, x_length, x_rest = _halved(x)
    with _whole_sums():
        u = (x16 @ W16.t()).float()
    share = (x_rest / x_length.clamp(min=1e-30)).max() if len(x) else x.new_zeros(())
    of_latent = length * (share + x.shape[1] * SUM) + rest * (1 + ROUNDING)
    error = u.abs().mul_(ROUNDING / (1 - ROUNDING)).addcmul_(x_length[:, None], of_latent)
    low, high = u - error, u.add_(error)
    if isinstance(selection, Above):
        on = high > selection.threshold
    else:
        if selection.key_bias is not None:  # added to the ends, since rounding is monotone
            low += selection.key_bias
            high += selection.key_bias
        if selection.signed:
            low, high = torch.maximum(low, -high), torch.maximum(-low, high)
        on = high > level
        if isinstance(selection, Top) and selection.k < len(W16):
            on &= high >= low.topk(selection.k, dim=1).values[:, -1:]
    if not bool(torch.isfinite(error).all()) or int(on.sum()) > MOST * on.numel():
        return None
    row, latent = on.nonzero(as_tuple=True)
    return Codes(row, latent, x.new_zeros(len(row)), (len(x), len(W16)))


def _in_full(x: Tensor, W: Tensor, selection: Selection, level: float) -> Codes:
    if not isinstance(selection, BatchTop):
        return plain.encode_select(x, W.t(), selection, block=BLOCK)
    u = x @ W.t()
    row, latent = (keys(u, selection) > level).nonzero(as_tuple=True)
    return Codes(row, latent, u[row, latent], (len(x), len(W)))


def _chosen(codes: Codes, selection: Selection, level: float) -> Codes:
    """What `selection` chooses among candidates with u; for BatchTop all whose key is above `level`."""
    if isinstance(selection, Above):
        return _kept(codes, codes.value > selection.threshold[codes.latent])
    key = _keys(codes, selection)
    if isinstance(selection, BatchTop):
        return _kept(codes, key > level)
    order = torch.sort(key, descending=True, stable=True).indices  # stable: ties stay in the order of latents
    order = order[torch.sort(codes.row[order], stable=True).indices]
    rank = torch.arange(len(codes), device=key.device) - codes.pointers[codes.row[order]]
    keep = torch.zeros(len(codes), dtype=torch.bool, device=key.device)
    keep[order[rank < selection.k]] = True
    return _kept(codes, keep & (key > 0))


def _level(x: Tensor, W: Tensor, selection: BatchTop) -> float:
    """A level that more than k keys a row exceed, guessed from some rows; 0 where that is not sure."""
    some = x[:: max(1, len(x) // SAMPLE)][:SAMPLE]
    rank = int(1.5 * selection.k * len(some)) + 10
    if len(some) < SAMPLE // 2 or rank >= len(some) * len(W):
        return 0.0
    level = float(keys(some @ W.t(), selection).flatten().topk(rank).values[-1])
    return level if level > 0 else 0.0


def _keys(codes: Codes, selection: Top | BatchTop) -> Tensor:
    bias = None if selection.key_bias is None else selection.key_bias[codes.latent]
    return keys(codes.value, Top(selection.k, bias, selection.signed))


def _kept(codes: Codes, keep: Tensor) -> Codes:
    return Codes(codes.row[keep], codes.latent[keep], codes.value[keep], codes.shape)


@contextmanager
def _whole_sums() -> Generator[None]:
    """cuBLAS may otherwise add parts of a bfloat16 product in bfloat16, which the bound does not know."""
    setting = torch.backends.cuda.matmul
    before = setting.allow_bf16_reduced_precision_reduction
    setting.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        setting.allow_bf16_reduced_precision_reduction = before
