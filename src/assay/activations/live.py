"""Rows straight from a model: the same rows, in the same order, as a store that was harvested from the same blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.activations.source import check_finite, torch_dtype
from assay.activations.table import Blocks, IntArray, Table
from assay.core import distribution
from assay.models import read

MOST_SORTED = 16  # batches of ragged blocks that are sorted by length together
SORTED_VALUES = 2**26  # numbers that their activations may hold


class LiveSource:
    """Activations of `model` on `blocks`, computed when asked for.

    `batch_size` blocks go through the model at once. `dtype` rounds rows as a store of that type would.
    Rounding of the forward pass depends on which blocks share a batch: rows equal those of a store to about 1e-6
    relative, and equal themselves bit for bit whenever the same window is asked for again.
    """

    in_memory = False

    def __init__(
        self, model: Any, blocks: Blocks, sites: Sequence[str], *, batch_size: int = 16, dtype: str = "float32"
    ) -> None:
        self.model, self.blocks, self.batch_size, self.dtype = model, blocks, batch_size, dtype
        self._torch_dtype = torch_dtype(dtype)
        self._sites = list(dict.fromkeys(model.canonical(site) for site in sites))

    @property
    def table(self) -> Table:
        return self.blocks.table

    @property
    def sites(self) -> list[str]:
        return list(self._sites)

    def width(self, site: str) -> int:
        return int(self.model.width(site))

    def fetch(self, rows: IntArray, sites: Sequence[str]) -> dict[str, Tensor]:
        table = self.table
        needed = np.unique(np.searchsorted(table.starts, rows, side="right") - 1)
        mine = needed[distribution.portion(len(needed), self.batch_size)]
        first, last = (int(i) for i in np.searchsorted(needed, [mine[0], mine[-1]])) if len(mine) else (0, -1)
        of_block = np.append(table.starts[needed], np.iinfo(np.int64).max)
        rows = rows[slice(*np.searchsorted(rows, of_block[[first, last + 1]]))] if len(mine) else rows[:0]
        out = {site: torch.empty(len(rows), self.width(site), dtype=self._torch_dtype) for site in sites}
        window = window_of(self.blocks, [self.width(site) for site in sites], self.batch_size)
        for got_rows, got in forward(self.model, self.blocks, mine, sites, self.batch_size, window):
            a, b = np.searchsorted(rows, [got_rows[0], got_rows[-1] + 1])
            pick = torch.from_numpy(np.searchsorted(got_rows, rows[a:b]))
            for site, x in got.items():
                if x.dtype == self._torch_dtype and x.device.type == "cpu":
                    torch.index_select(x, 0, pick, out=out[site][a:b])
                else:
                    out[site][a:b] = x.index_select(0, pick.to(x.device))
        return {site: distribution.joined_rows(x) for site, x in out.items()}

    def describe(self) -> dict[str, Any]:
        return {"kind": "live", "dtype": self.dtype, **describe_blocks(self.model, self.blocks), "sites": self.sites}


def window_of(blocks: Blocks, widths: Sequence[int], batch_size: int) -> int:
    """How many batches of ragged blocks are sorted by length together: as many as hold 2^26 values in full, 16 at most.

    1 for packed blocks, which are all full, so that there is no padding to save.
    """
    if blocks.packed and blocks.frame.packs:
        return 1
    return max(1, min(MOST_SORTED, SORTED_VALUES // (batch_size * blocks.context * sum(widths))))


def forward(
    model: Any, blocks: Blocks, chosen: IntArray, sites: Sequence[str], batch_size: int, window: int = 1
) -> Iterator[tuple[IntArray, dict[str, Tensor]]]:
    """Ascending table rows [n] and {site: [n, d] float} for the chosen blocks (ascending), `window` batches at a time.

    One forward pass of `batch_size` blocks serves every site and stops at the last one. The blocks of a window are sorted by
    length before they are cut into batches, so that little is padding; rows come in table order all the same. What a block
    shares a batch with moves its rows by rounding alone (about 1e-6 of the largest entry in fp32). Non-finite activations stop with
    their origin.
    """
    for first in range(0, len(chosen), batch_size * window):
        part = chosen[first : first + batch_size * window]
        if len(part) <= batch_size:
            yield _one_pass(model, blocks, part, sites)
            continue
        longest_first = np.argsort(-blocks.table.block_rows[part], kind="stable")
        ends = blocks.table.starts[part + 1]
        rows = np.concatenate([np.arange(a, b) for a, b in zip(blocks.table.starts[part], ends, strict=True)])
        whole: dict[str, Tensor] = {}
        for at in range(0, len(part), batch_size):
            got_rows, got = _one_pass(model, blocks, np.sort(part[longest_first[at : at + batch_size]]), sites)
            place = torch.from_numpy(np.searchsorted(rows, got_rows))
            for site, x in got.items():
                held = whole.setdefault(site, x.new_empty(len(rows), x.shape[1]))
                held.index_copy_(0, place.to(x.device), x)
        yield rows, whole


def _one_pass(model: Any, blocks: Blocks, batch: IntArray, sites: Sequence[str]) -> tuple[IntArray, dict[str, Tensor]]:
    """The rows of these blocks, in their order."""
    ids, mask, rows = blocks.batch(batch)
    with torch.no_grad():
        read_out = read(model, ids.to(model.device), mask.to(model.device), list(sites), stop=True)
    flat: dict[str, Tensor] = {}
    for site in sites:
        x = read_out[site]
        flat[site] = x.reshape(-1, x.shape[-1]) if len(rows) == mask.numel() else x[mask.bool().to(x.device)]
        check_finite(site, flat[site], rows, blocks.table)
    return rows, flat


def forward_together(
    model: Any, blocks: Blocks, chosen: IntArray, sites: Sequence[str], batch_size: int, window: int = 1
) -> Iterator[tuple[IntArray, dict[str, Tensor]]]:
    """`forward` with its windows dealt out to all processes of the run; the leading one gets them all, in order, the others none."""
    n, unit = distribution.n_processes(), batch_size * window
    if n == 1:
        yield from forward(model, blocks, chosen, sites, batch_size, window)
        return
    for first in range(0, len(chosen), n * unit):
        start = first + distribution.rank() * unit
        nothing = np.zeros(0, np.int64), {s: torch.zeros(0, model.width(s), dtype=model.dtype) for s in sites}
        mine = forward(model, blocks, chosen[start : start + unit], sites, batch_size, window)
        rows, got = next(mine, nothing)
        everyone = distribution.each(torch.from_numpy(rows))
        found = {site: distribution.each(got[site].to(model.dtype)) for site in sites}
        for i, part in enumerate(everyone if distribution.leading() else []):
            if len(part):
                yield part.numpy(), {site: found[site][i] for site in sites}


def describe_blocks(model: Any, blocks: Blocks) -> dict[str, Any]:
    """What was read and how, for provenance: model, framing, context, masks, counts."""
    return {
        "model": model.name,
        "weights_hash": model.weights_hash(),
        "context": blocks.context,
        "packed": blocks.packed,
        "frame": blocks.frame.record(),
        "bos": "none" if not blocks.frame.prefix else "before every document and block",
        "blocks_digest": blocks.digest,
        "n_blocks": len(blocks),
        "n_rows": blocks.table.n_rows,
        "n_documents": len(blocks.table.documents),
        "n_truncated": blocks.n_truncated,
    }
