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
        for got_rows, got in forward(self.model, self.blocks, mine, sites, self.batch_size):
            a, b = np.searchsorted(rows, [got_rows[0], got_rows[-1] + 1])
            pick = torch.from_numpy(np.searchsorted(got_rows, rows[a:b]))
            for site, x in got.items():
                out[site][a:b] = x.index_select(0, pick.to(x.device))
        return {site: distribution.joined_rows(x) for site, x in out.items()}

    def describe(self) -> dict[str, Any]:
        return {"kind": "live", "dtype": self.dtype, **describe_blocks(self.model, self.blocks), "sites": self.sites}


def forward(
    model: Any, blocks: Blocks, chosen: IntArray, sites: Sequence[str], batch_size: int
) -> Iterator[tuple[IntArray, dict[str, Tensor]]]:
    """Ascending table rows [n] and {site: [n, d] float} for the chosen blocks, `batch_size` blocks at a time.

    One forward pass serves every site and stops at the last one. Non-finite activations stop with their origin.
    """
    for first in range(0, len(chosen), batch_size):
        ids, mask, rows = blocks.batch(chosen[first : first + batch_size])
        with torch.no_grad():
            read_out = read(model, ids.to(model.device), mask.to(model.device), list(sites), stop=True)
        flat: dict[str, Tensor] = {}
        for site in sites:
            x = read_out[site]
            flat[site] = x.reshape(-1, x.shape[-1]) if len(rows) == mask.numel() else x[mask.bool().to(x.device)]
            check_finite(site, flat[site], rows, blocks.table)
        yield rows, flat


def forward_together(
    model: Any, blocks: Blocks, chosen: IntArray, sites: Sequence[str], batch_size: int
) -> Iterator[tuple[IntArray, dict[str, Tensor]]]:
    """`forward` with its batches dealt out to all processes of the run; the leading one gets them all, in order, the others none."""
    n = distribution.n_processes()
    if n == 1:
        yield from forward(model, blocks, chosen, sites, batch_size)
        return
    for first in range(0, len(chosen), n * batch_size):
        start = first + distribution.rank() * batch_size
        nothing = np.zeros(0, np.int64), {s: torch.zeros(0, model.width(s), dtype=model.dtype) for s in sites}
        rows, got = next(forward(model, blocks, chosen[start : start + batch_size], sites, batch_size), nothing)
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
