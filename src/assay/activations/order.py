"""The one definition of the order in which rows are seen.

Kept rows are all rows of a table that may be trained on (text of the right split). For one seed and epoch:

1. The blocks are permuted by the key (seed, "order", "blocks", epoch).
2. The kept rows of the blocks, laid end to end in that order, are cut into windows of `shuffle_rows` rows (the last is
   shorter).
3. The rows of window w are permuted by the key (seed, "order", "window", epoch, w).

The windows laid end to end are the epoch. Stream position p is row p mod n_rows of epoch p // n_rows, so a batch runs
on into the next epoch and every row is used once per epoch.

`permutation(n, key)` does not depend on the version of a library: number i gets the i-th output of the generator
splitmix64 (Steele, Lea, Flood 2014) seeded with the key; its lowest bits are replaced by i, as many as n - 1 has;
the numbers i sorted by these values are the permutation.
"""

from __future__ import annotations

import numpy as np

from assay.activations.table import IntArray, Table
from assay.core.errors import BadInput, BadOption
from assay.core.randomness import seed_of

DEFAULT_SHUFFLE_ROWS = 2**18
VERSION = 1  # of the definition above; recorded with every result


def permutation(n: int, key: int) -> IntArray:
    """int64 [n]: a permutation of 0..n-1 that depends on n and the 64-bit key alone."""
    index = np.arange(n, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    low = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    z = (z & ~low) | index
    z.sort()
    return (z & low).astype(np.int64)


class Order:
    """Random access to the order of the kept rows of a table. `kept`: bool [n_rows of the table]."""

    def __init__(self, table: Table, kept: IntArray, shuffle_rows: int = DEFAULT_SHUFFLE_ROWS) -> None:
        if shuffle_rows < 1:
            raise BadOption(f"--shuffle-rows is {shuffle_rows}; it must be at least 1.")
        self.shuffle_rows = shuffle_rows
        self._rows = np.flatnonzero(kept)
        self._starts = np.searchsorted(self._rows, table.starts)
        self.n_rows = len(self._rows)
        self.n_windows = -(-self.n_rows // shuffle_rows)
        self._epoch: tuple[int, int] | None = None
        self._last: tuple[tuple[int, int, int], IntArray] | None = None
        if self.n_rows == 0:
            raise BadInput("No row may be trained on: every token is special or belongs to another split.")

    def rows(self, seed: int, epoch: int, start: int, n: int) -> IntArray:
        """int64 [n]: the table rows at stream positions start..start+n-1, counted from the start of `epoch`."""
        parts: list[IntArray] = []
        epoch, start = epoch + start // self.n_rows, start % self.n_rows
        while n > 0:
            window, offset = divmod(start, self.shuffle_rows)
            part = self.window(seed, epoch, window)[offset : offset + n]
            parts.append(part)
            n, start = n - len(part), start + len(part)
            if start == self.n_rows:
                epoch, start = epoch + 1, 0
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def window(self, seed: int, epoch: int, window: int) -> IntArray:
        """int64 [shuffle_rows or fewer]: the table rows of one window, in their order."""
        key = (seed, epoch, window)
        if self._last is None or self._last[0] != key:
            self._last = key, self._make_window(*key)
        return self._last[1]

    def _make_window(self, seed: int, epoch: int, window: int) -> IntArray:
        self._permute_blocks(seed, epoch)
        first = window * self.shuffle_rows
        last = min(first + self.shuffle_rows, self.n_rows)
        a, b = np.searchsorted(self._ends, [first, last - 1], side="right")
        blocks = self._blocks[a : b + 1]
        counts = self._starts[blocks + 1] - self._starts[blocks]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._rows[np.repeat(self._starts[blocks], counts) + inside]
        skipped = self._ends[a] - counts[0]
        rows = rows[first - skipped : last - skipped]
        return rows[permutation(len(rows), seed_of(seed, "order", "window", epoch, window))]

    def _permute_blocks(self, seed: int, epoch: int) -> None:
        if self._epoch != (seed, epoch):
            self._blocks = permutation(len(self._starts) - 1, seed_of(seed, "order", "blocks", epoch))
            self._ends = np.cumsum(self._starts[self._blocks + 1] - self._starts[self._blocks])
            self._epoch = (seed, epoch)
