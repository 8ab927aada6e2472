"""The Triton programs of the kernels: what one block of a GPU computes. `triton.py` launches them.

Every sum runs in an order that shapes alone fix and no two programs write the same number, so that results do not change from run
to run. `kind` is the precision of the arithmetic: 64 bits for float64, 32 for everything else. Ids and strides are 64-bit integers.
"""

from __future__ import annotations

import triton
import triton.language as tl

# pyright: basic


@triton.jit
def gathered_sums(
    ends, ids, values, order, matrix, stride, out, width,
    PAIRS: tl.constexpr, COLUMNS: tl.constexpr, kind: tl.constexpr,
):  # fmt: skip
    """out[s] = sum over the pairs order[ends[s - 1] : ends[s]] of value * matrix[id]. One program a segment and block of columns."""
    segment = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    begin = tl.load(ends + segment - 1, mask=segment > 0, other=0)
    end = tl.load(ends + segment)
    total = tl.zeros([COLUMNS], dtype=kind)
    for at in range(begin, end, PAIRS):
        place = at + tl.arange(0, PAIRS)
        inside = place < end
        pair = tl.load(order + place, mask=inside, other=0)
        row = tl.load(ids + pair, mask=inside, other=0)
        value = tl.load(values + pair, mask=inside, other=0).to(kind)
        mask = inside[:, None] & (column < width)[None, :]
        part = tl.load(matrix + row[:, None] * stride + column[None, :], mask=mask, other=0).to(kind)
        total += tl.sum(value[:, None] * part, axis=0)
    tl.store(out + segment * width + column, total.to(out.dtype.element_ty), mask=column < width)


@triton.jit
def products_at_pairs(
    rows, latents, n_pairs, g, g_stride, matrix, stride, out, width,
    PAIRS: tl.constexpr, COLUMNS: tl.constexpr, kind: tl.constexpr,
):  # fmt: skip
    """out[p] = g[row_p] . matrix[latent_p]. One program a block of pairs."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < n_pairs
    row = tl.load(rows + pair, mask=inside, other=0)[:, None]
    latent = tl.load(latents + pair, mask=inside, other=0)[:, None]
    total = tl.zeros([PAIRS], dtype=kind)
    for start in range(0, width, COLUMNS):
        column = (start + tl.arange(0, COLUMNS))[None, :]
        mask = inside[:, None] & (column < width)
        left = tl.load(g + row * g_stride + column, mask=mask, other=0).to(kind)
        right = tl.load(matrix + latent * stride + column, mask=mask, other=0).to(kind)
        total += tl.sum(left * right, axis=1)
    tl.store(out + pair, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def squared_lengths(
    params, grads, total, width, along, squares, PARALLEL: tl.constexpr, COLUMNS: tl.constexpr, kind: tl.constexpr
):
    """Of each row of a gradient, squares[r] = |g|^2 in 64 bits. PARALLEL: of g less its part along the parameter's row p, and
    along[r] = (g . p) / (p . p). One program a row of `width` numbers, of `total` in all."""
    row = tl.program_id(0).to(tl.int64)
    factor = tl.zeros([], dtype=kind)
    if PARALLEL:
        gp = tl.zeros([], dtype=kind)
        pp = tl.zeros([], dtype=kind)
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            place = row * width + column
            mask = (column < width) & (place < total)
            p = tl.load(params + place, mask=mask, other=0).to(kind)
            g = tl.load(grads + place, mask=mask, other=0).to(kind)
            gp += tl.sum(g * p, axis=0)
            pp += tl.sum(p * p, axis=0)
        factor = gp / pp
        tl.store(along + row, factor)
    square = tl.zeros([], dtype=tl.float64)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        place = row * width + column
        mask = (column < width) & (place < total)
        g = tl.load(grads + place, mask=mask, other=0).to(kind)
        if PARALLEL:
            g -= factor * tl.load(params + place, mask=mask, other=0).to(kind)
        square += tl.sum(g * g, axis=0).to(tl.float64)
    tl.store(squares + row, square)


@triton.jit
def adam(
    params, grads, first, second, total, width, along, numbers,
    UNIT: tl.constexpr, COLUMNS: tl.constexpr, kind: tl.constexpr,
):  # fmt: skip
    """Adam on a row of `width` numbers, of `total` in all, in place. UNIT: the gradient's part along the row is taken off first
    and the row is set to length 1 afterwards. numbers: lr, beta1, beta2, 1 - beta1^t, 1 - beta2^t, eps, shrink."""
    row = tl.program_id(0).to(tl.int64)
    lr = tl.load(numbers).to(kind)
    beta1 = tl.load(numbers + 1)
    beta2 = tl.load(numbers + 2)
    rest1 = (1.0 - beta1).to(kind)
    rest2 = (1.0 - beta2).to(kind)
    beta1 = beta1.to(kind)
    beta2 = beta2.to(kind)
    correct1 = tl.load(numbers + 3).to(kind)
    correct2 = tl.load(numbers + 4).to(kind)
    eps = tl.load(numbers + 5).to(kind)
    shrink = tl.load(numbers + 6).to(kind)
    factor = tl.zeros([], dtype=kind)
    if UNIT:
        factor = tl.load(along + row)
    square = tl.zeros([], dtype=kind)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        place = row * width + column
        mask = (column < width) & (place < total)
        p = tl.load(params + place, mask=mask, other=0).to(kind)
        g = tl.load(grads + place, mask=mask, other=0).to(kind)
        if UNIT:
            g -= factor * p
        g *= shrink
        m = beta1 * tl.load(first + place, mask=mask, other=0).to(kind) + rest1 * g
        v = beta2 * tl.load(second + place, mask=mask, other=0).to(kind) + rest2 * g * g
        p -= lr * (m / correct1) / (tl.sqrt(v / correct2) + eps)
        p = tl.where(mask, p, 0.0)  # 0 / 0 beyond the end where eps is 0
        tl.store(first + place, m.to(first.dtype.element_ty), mask=mask)
        tl.store(second + place, v.to(second.dtype.element_ty), mask=mask)
        tl.store(params + place, p.to(params.dtype.element_ty), mask=mask)
        square += tl.sum(p * p, axis=0)
    if UNIT:
        length = tl.sqrt(square)
        tl.debug_barrier()  # what this program wrote is read again, perhaps by other threads of it
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            place = row * width + column
            mask = (column < width) & (place < total)
            p = tl.load(params + place, mask=mask, other=0).to(kind)
            tl.store(params + place, (p / length).to(params.dtype.element_ty), mask=mask)
