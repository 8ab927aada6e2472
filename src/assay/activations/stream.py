"""Training batches from any source: kept rows only, in the one order, by step number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.activations import order
from assay.activations.order import DEFAULT_SHUFFLE_ROWS, Order
from assay.activations.source import Origin, Source, check_finite, check_varies, chosen_sites, origin_of
from assay.activations.table import IntArray, Table
from assay.activations.text import split_of
from assay.core.errors import BadInput, BadOption
from assay.core.randomness import seed_of

SAMPLE_SPREAD = 4  # a sample of n rows is drawn among about this many times n


class Stream:
    """Batches {site: float32 [batch_size, width]} in raw space.

    Batch `step` is stream positions step * batch_size onwards (order.py), so a resumed run needs the step alone, and
    a store and a live model give the same rows. It runs on over the ends of epochs: every row is used once an epoch.

    Rows of special tokens never appear. `split` keeps the rows of documents of that split ("train"); None keeps all;
    rows without a document are always kept. One window of `shuffle_rows` rows is held in memory, in the type it is
    stored in, on `device`. A window is checked when it is loaded: a non-finite value stops with its origin, and a
    constant site is refused.
    """

    def __init__(
        self,
        source: Source,
        sites: Sequence[str] | None = None,
        *,
        seed: int = 0,
        shuffle_rows: int = DEFAULT_SHUFFLE_ROWS,
        batch_size: int = 4096,
        split: str | None = "train",
        device: str | torch.device = "cpu",
    ) -> None:
        if batch_size < 1:
            raise BadOption(f"--batch-size is {batch_size}; it must be at least 1.")
        self.source, self.sites = source, chosen_sites(source, sites)
        self.seed, self.batch_size, self.split, self.device = seed, batch_size, split, torch.device(device)
        self._kept = kept_rows(source.table, None if split is None else (split,))
        self.order = Order(source.table, self._kept, shuffle_rows)
        if self.order.n_rows < 2:
            raise BadInput("These activations hold a single row; more text is needed.")
        self._window: _Window | None = None
        self._sound = False  # whether every row of an in-memory source was looked at

    @property
    def n_rows(self) -> int:
        """Rows in an epoch."""
        return self.order.n_rows

    @property
    def shuffle_rows(self) -> int:
        return self.order.shuffle_rows

    def width(self, site: str) -> int:
        return self.source.width(site)

    def batch(self, step: int) -> dict[str, Tensor]:
        """{site: float32 [batch_size, width]}; any step at any time, neighbours fast."""
        parts: dict[str, list[Tensor]] = {site: [] for site in self.sites}
        for epoch, window, a, b in self._pieces(step):
            held = self._load(epoch, window)
            for site in self.sites:
                parts[site].append(held.take(site, a, b))
        return {site: x[0] if len(x) == 1 else torch.cat(x) for site, x in parts.items()}

    def batches(self, start_step: int, n_steps: int) -> Iterator[dict[str, Tensor]]:
        """The batches of steps start_step .. start_step + n_steps - 1."""
        for step in range(start_step, start_step + n_steps):
            yield self.batch(step)

    def row_ids(self, step: int) -> IntArray:
        """int64 [batch_size]: the table rows that `batch(step)` holds, in its order."""
        return np.concatenate([self.order.window(self.seed, e, w)[a:b] for e, w, a, b in self._pieces(step)])

    def origin(self, step: int, row: int) -> Origin:
        """Where row `row` of `batch(step)` comes from: document, position, token."""
        return origin_of(self.source.table, int(self.row_ids(step)[row]))

    def sample(self, n: int, name: str) -> dict[str, Tensor]:
        """{site: float32 [min(n, n_rows), width]}: distinct kept rows at random; the name is part of the seed.

        They are the first rows of an order of their own (seed "sample", name; windows of 4 n rows), so that a live
        model reads 4 n rows at most. Every row has the same chance.
        """
        if n < 2:
            raise BadOption(f"A sample of {n} rows was asked for; at least 2 are needed.")
        n = min(n, self.n_rows)
        own = Order(self.source.table, self._kept, SAMPLE_SPREAD * n)
        held = self._read(own.rows(seed_of(self.seed, "sample", name), 0, 0, n))
        return {site: held.take(site, 0, n) for site in self.sites}

    def document_ids(self) -> set[str]:
        """Ids of the documents that have at least one row in this stream: those trained on."""
        index = np.unique(self.source.table.document[self._kept])
        return {self.source.table.documents[i] for i in index.tolist() if i >= 0}

    def describe(self) -> dict[str, Any]:
        """For provenance: what is read, in which order, under which mask."""
        return {
            "source": self.source.describe(),
            "sites": {site: self.width(site) for site in self.sites},
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shuffle_rows": self.shuffle_rows,
            "order_version": order.VERSION,
            "mask": "text tokens; special tokens are left out",
            "split": self.split,
            "n_rows": self.n_rows,
            "n_documents": len(self.document_ids()),
        }

    def _pieces(self, step: int) -> Iterator[tuple[int, int, int, int]]:
        """(epoch, window, first, last) of each run of rows of a batch that lies in one window."""
        position, left = step * self.batch_size, self.batch_size
        while left > 0:
            epoch, start = divmod(position, self.n_rows)
            window, a = divmod(start, self.shuffle_rows)
            b = min(a + left, self.shuffle_rows, self.n_rows - window * self.shuffle_rows)
            yield epoch, window, a, b
            position, left = position + b - a, left - (b - a)

    def _load(self, epoch: int, window: int) -> _Window:
        if self._window is None or self._window.key != (epoch, window):
            self._window = None  # let go of the old one first: one window in memory, not two
            held = self._read(self.order.window(self.seed, epoch, window))
            held.key = (epoch, window)
            self._window = held
        return self._window

    def _read(self, rows: IntArray) -> _Window:
        """Rows in the given order, checked."""
        source, table = self.source, self.source.table
        if source.in_memory:
            held = _Window(None, rows, source, self.device)
            self._check_all()
        else:
            ascending = np.argsort(rows)
            place = np.empty_like(ascending)
            place[ascending] = np.arange(len(rows))
            tensors = {s: x.to(self.device) for s, x in source.fetch(rows[ascending], self.sites).items()}
            held = _Window(tensors, place, source, self.device)
            for site, x in tensors.items():
                check_finite(site, x, rows[ascending], table)
        for site in self.sites:
            check_varies(site, held.take(site, 0, min(len(rows), 4096)))
        return held

    def _check_all(self) -> None:
        """Once, for a source in memory, which has no windows to check as they are loaded."""
        rows = np.flatnonzero(self._kept)
        for first in range(0, 0 if self._sound else len(rows), 8192):
            part = rows[first : first + 8192]
            for site, x in self.source.fetch(part, self.sites).items():
                check_finite(site, x, part, self.source.table)
        self._sound = True


class _Window:
    """Rows that are at hand, and the permutation that is applied as they are taken; the rows never move."""

    def __init__(
        self, tensors: dict[str, Tensor] | None, places: IntArray, source: Source, device: torch.device
    ) -> None:
        self.key: tuple[int, int] | None = None
        self._tensors, self._source, self._device = tensors, source, device
        self._places = torch.from_numpy(places).to(device if tensors is not None else "cpu")

    def take(self, site: str, a: int, b: int) -> Tensor:
        """float32 [b - a, width]: rows a..b-1 of the window."""
        if self._tensors is None:
            x = self._source.fetch(self._places[a:b].numpy(), [site])[site]
            return x.to(self._device, torch.float32)
        return self._tensors[site].index_select(0, self._places[a:b]).float()


def kept_rows(table: Table, splits: Sequence[str] | None, rule: Any = split_of) -> IntArray:
    """bool [n_rows]: text rows of documents whose split, by `rule(document_id)`, is among `splits`; None: of all."""
    kept = ~table.special
    if splits is not None and table.documents:
        chosen = np.array([*(rule(d) in splits for d in table.documents), True])  # document -1 finds the last: kept
        kept &= chosen[table.document]
    return kept
