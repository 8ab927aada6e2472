"""The native encoder: u = x @ W_enc at the chosen pairs, without a tensor of B x F numbers.

Two ways to the same pairs. `_in_full` multiplies blocks of rows with torch's matrix product and selects while a block is in cache.
`_screened` (float32, AVX-512 VNNI) multiplies 8-bit integers, which tells for most pairs that they cannot be chosen, and computes the
others in 32 bits (`cpp/screen.h` has the bound); rows that it cannot decide are done in full. The choice between the two depends on
the numbers and shapes alone, never on time or on earlier calls.
"""

from __future__ import annotations

from ctypes import c_double, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.kernels import library, native
from assay.kernels.codes import Codes
from assay.kernels.native import at, checked, function, threads, whole
from assay.kernels.origin import Origin, Shared
from assay.kernels.selection import Above, BatchTop, Selection, Top, keys

BLOCK = 1 << 21  # elements of u in memory at once: 8 MiB of float32
ABOVE, TOP, FLOOR = 0, 1, 2  # cpp/select.h
SAMPLE = 128  # rows below which a batch is not screened
GUESSED_FROM = 64  # rows from which the level of a selection over the batch is guessed
OUTLIER = 4.0  # times the median root mean square at which a dimension is kept out of the 8-bit product
MOST_OUTLIERS = 16
QUERY_NUMBERS = 4  # cpp/bounds.h
MOST = 256  # candidates that a row may always have; with more than a tenth (TOP) or a sixth of all latents it is computed in full
WIDEST = 1 << 16  # columns whose 8-bit products are sure to fit into 32 bits
SCREEN_FROM = {
    "avx512vnni": 1 << 16
}  # elements of W_enc from which screening pays; builds without 8-bit products never do


class Pairs:
    """The pairs that the library collects, row by row; freed with the object."""

    def __init__(self, B: int, F: int, dtype: torch.dtype) -> None:
        self.shape, self.dtype = (B, F), dtype
        self.address = c_void_p(function("pairs_new", dtype)(c_int64(B)))

    def __del__(self) -> None:
        function("pairs_free", self.dtype)(self.address)

    def __len__(self) -> int:
        return function("pairs_count", self.dtype)(self.address)

    def codes(self) -> Codes:
        n, B = len(self), self.shape[0]
        pointers, row, latent = (torch.empty(size, dtype=torch.int64) for size in (B + 1, n, n))
        value = torch.empty(n, dtype=self.dtype)
        function("pairs_export", self.dtype)(self.address, at(pointers), at(row), at(latent), at(value))
        return Codes(row, latent, value, self.shape, {"pointers": pointers, "inside": pointers})


class Rule:
    """A selection as the library takes it: kind, k, level [F], floor, signed."""

    def __init__(self, selection: Selection, F: int, dtype: torch.dtype, floor: float = 0.0) -> None:
        self.kind = ABOVE if isinstance(selection, Above) else TOP if isinstance(selection, Top) else FLOOR
        self.k = 0 if isinstance(selection, Above) else max(1, min(selection.k, F))
        self.signed = not isinstance(selection, Above) and selection.signed
        self.floor = floor
        level = selection.threshold if isinstance(selection, Above) else selection.key_bias
        if level is None:
            level = torch.zeros(F, dtype=dtype)
        self.level = whole("The selection's threshold or bias", level.detach().to(dtype).contiguous(), (F,), dtype)

    def arguments(self, dtype: torch.dtype) -> list[Any]:
        floor = c_float(self.floor) if dtype == torch.float32 else c_double(self.floor)
        return [c_int(self.kind), c_int64(self.k), at(self.level), floor, c_int(self.signed)]


@dataclass(frozen=True)
class Rounded:
    """Rows y [B, n] less their offset `middle` [n], as 8-bit integers `q` [B, n filled up to fours]; a few large dimensions
    `outliers` are kept apart. numbers [B, 4 + outliers]: `Queries` in cpp/bounds.h. The same for every bias that x = y - b."""

    middle: Tensor
    outliers: Tensor
    q: Tensor
    numbers: Tensor

    @staticmethod
    def of(y: Tensor) -> Rounded:
        B, n = y.shape
        middle, outliers = _shape_of(y)
        q = torch.empty(B, (n + 3) // 4 * 4, dtype=torch.uint8)
        numbers = torch.empty(B, QUERY_NUMBERS + len(outliers))
        native.loaded().assay_round_rows(
            at(y), c_int64(B), c_int64(n), c_int64(native.row_stride(y)), at(middle), at(outliers), c_int64(len(outliers)),
            at(q), at(numbers), threads(),
        )  # fmt: skip
        return Rounded(middle, outliers, q, numbers)


def encode_select(x: Tensor, W_enc: Tensor, selection: Selection, origin: Origin | None = None) -> Codes:
    """The chosen pairs with u. x [B, n]; W_enc [n, F] in any storage order, screened only where it is latent-major. origin: where x
    comes from, so that what is rounded of its rows serves other encoders too."""
    x = checked("x", x, (-1, -1))
    W_enc = W_enc.detach()
    checked("W_enc", W_enc.t() if W_enc.stride(0) == 1 else W_enc, (-1, -1), x.dtype)
    if W_enc.shape[0] != x.shape[1]:
        raise BadInput(f"x has {x.shape[1]} columns, W_enc has {W_enc.shape[0]} rows; they must be equal.")
    if origin is not None:
        checked("The batch that x comes from", origin.y, tuple(x.shape), x.dtype)
        if origin.bias is not None:
            whole("The bias of x", origin.bias, (x.shape[1],), x.dtype)
    origin = origin or Origin(Shared(x), slice(0, x.shape[1]), None)
    B, F = len(x), W_enc.shape[1]
    if isinstance(selection, Above | Top):
        return _collected(x, W_enc, Rule(selection, F, x.dtype), origin).codes()
    wanted, floor = selection.k * B, _floor(x, W_enc, selection)
    pairs = _collected(x, W_enc, Rule(selection, F, x.dtype, floor), origin)
    if floor > 0 and len(pairs) < wanted:  # the guess was too high
        pairs = _collected(x, W_enc, Rule(selection, F, x.dtype), origin)
    rule = Rule(selection, F, x.dtype)
    if len(pairs) > wanted:
        function("keep_largest", x.dtype)(pairs.address, c_int64(wanted), at(rule.level), c_int(rule.signed))
    return pairs.codes()


def _floor(x: Tensor, W_enc: Tensor, selection: BatchTop) -> float:
    """A level that more than k keys a row exceed, guessed from some rows; 0 where that is not sure."""
    some = x[:: max(1, len(x) // GUESSED_FROM)][:GUESSED_FROM]
    rank = int(1.5 * selection.k * len(some)) + 10
    if len(some) < GUESSED_FROM // 2 or rank >= len(some) * W_enc.shape[1]:
        return 0.0
    key = keys(some @ W_enc, selection).flatten().float()
    upper_bits = key.view(torch.int32) >> 16  # keys are not negative, so their bits are in their order
    n_from = torch.bincount(upper_bits, minlength=1 << 15).flip(0).cumsum(0)  # how many keys are at least so large
    reached = (1 << 15) - 1 - int((n_from < rank).sum())
    level = float(torch.tensor(reached << 16, dtype=torch.int32).view(torch.float32))
    return level if level > 0 else 0.0  # not a number: rows that are not finite


def _collected(x: Tensor, W_enc: Tensor, rule: Rule, origin: Origin) -> Pairs:
    pairs = Pairs(len(x), W_enc.shape[1], x.dtype)
    left = _screened(x, W_enc, rule, pairs, origin) if screens(x, W_enc) else torch.arange(len(x))
    if len(left):
        _in_full(x, W_enc, rule, pairs, left)
    return pairs


def screens(x: Tensor, W_enc: Tensor) -> bool:
    """Whether rows of x are screened: float32, a large latent-major W_enc, and a build with 8-bit products."""
    enough = SCREEN_FROM.get(library.find().name)
    return (
        enough is not None
        and x.dtype == torch.float32
        and W_enc.t().is_contiguous()
        and W_enc.numel() >= enough
        and len(x) >= SAMPLE
        and x.shape[1] <= WIDEST
    )


def _in_full(x: Tensor, W_enc: Tensor, rule: Rule, pairs: Pairs, ids: Tensor) -> None:
    F = W_enc.shape[1]
    n = max(1, BLOCK // F)
    buffer = x.new_empty(min(n, len(ids)), F)
    for some in ids.split(n):
        rows = x[int(some[0]) : int(some[-1]) + 1] if int(some[-1] - some[0]) + 1 == len(some) else x[some]
        u = torch.mm(rows, W_enc, out=buffer[: len(some)])
        function("select", x.dtype)(
            pairs.address, at(u), at(some), c_int64(len(some)), c_int64(F), *rule.arguments(x.dtype), threads()
        )


def _screened(x: Tensor, W_enc: Tensor, rule: Rule, pairs: Pairs, origin: Origin) -> Tensor:
    """Choose in the rows that screening can decide; returns the ids of the others."""
    n, F = W_enc.shape
    rounded: Rounded = origin.known("rounded", Rounded.of)
    middle = rounded.middle if origin.bias is None else rounded.middle - origin.bias.detach()
    outliers = rounded.outliers
    handed_back = torch.zeros(len(x), dtype=torch.uint8)
    most = max(4 * rule.k, F // (10 if rule.kind == TOP else 6), MOST)
    native.loaded().assay_screen(
        pairs.address, at(x), c_int64(len(x)), c_int64(n), c_int64(native.row_stride(x)), at(W_enc), c_int64(F),
        at(middle), at(outliers), c_int64(len(outliers)), at(rounded.q), at(rounded.numbers), *rule.arguments(x.dtype), c_int64(most), at(handed_back), threads(),
    )  # fmt: skip
    return handed_back.nonzero().flatten()


def _shape_of(y: Tensor) -> tuple[Tensor, Tensor]:
    """m [n], the mean row, and the ids of the few dimensions that are far larger than the others around it."""
    some = y[:: max(1, len(y) // SAMPLE)]
    some = some[some.sum(1).isfinite()]
    middle = some.sum(0) / max(1, len(some))
    size = torch.linalg.vector_norm(some - middle, dim=0)
    large = size > OUTLIER * size.median()
    n = min(MOST_OUTLIERS, int(large.sum()))
    return middle, size.topk(n).indices.sort().values
