"""What the classical methods share: rows of a stream as one bounded sample, or as batches of one size.

Neither depends on how the stream was cut into chunks, so a fit repeats whatever the chunks were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.options import Config as BaseConfig


@config
class FitConfig(BaseConfig):
    """Options of a classical method that keeps k latents of each row."""

    k: int
    """How many latents may be active in a token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.wiring == "sae", "wiring", self.wiring, "sae: it predicts what it reads")
        require(self.d_out in (None, self.d_in), "d_out", self.d_out, f"d_in={self.d_in} (or left out)")
        require(0 < self.k <= self.d_sae, "k", self.k, f"between 1 and --d-sae {self.d_sae}")


def whole_number(rng: torch.Generator) -> int:
    """A seed for a library that takes one."""
    return int(torch.randint(1 << 31, (1,), generator=rng))


def reservoir(chunks: Iterable[Tensor], n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most n rows [n, d] of a stream, each set of n equally likely, in their order; and the mean [d] of all rows. Float64.

    Every row draws a number and the n smallest stay: memory for n rows and one chunk.
    """
    draw = np.random.default_rng(whole_number(rng))
    rows, keys, total, count = torch.zeros(0), torch.zeros(0, dtype=torch.float64), torch.zeros(()), 0
    for x in chunks:
        wide = x.double().cpu()
        total, count = total + wide.sum(0), count + len(wide)
        rows = torch.cat([rows, wide]) if rows.numel() else wide
        keys = torch.cat([keys, torch.from_numpy(draw.random(len(wide)))])
        if len(rows) > n:
            kept = keys.topk(n, largest=False).indices.sort().values
            rows, keys = rows[kept], keys[kept]
    return rows, total / max(count, 1)


def batches(chunks: Iterable[Tensor], n: int, first: int = 0) -> Iterator[Tensor]:
    """The stream's rows n at a time in float64 (the first batch `first` rows where that is more); the last batch holds the rest."""
    size, held, n_held = max(n, first), [], 0
    for x in chunks:
        held, n_held = [*held, x.double().cpu()], n_held + len(x)
        while n_held >= size:
            rows = torch.cat(held)
            yield rows[:size]
            held, n_held, size = [rows[size:]], n_held - size, n
    if n_held:
        yield torch.cat(held)
