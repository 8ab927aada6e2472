"""The order of rows: a permutation in every epoch, by the written definition, evenly mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.activations import Order, Table
from assay.activations.order import permutation
from assay.core.errors import BadInput, BadOption
from assay.core.randomness import seed_of


def table(block_rows: list[int]) -> Table:
    n = sum(block_rows)
    return Table(*(np.zeros(n, np.int32) for _ in range(3)), np.zeros(n, np.uint8), np.array(block_rows), ("00" * 8,))


def by_hand(n: int, key: int) -> list[int]:
    """splitmix64 as it is published, with Python's whole numbers."""
    full, values = 2**64 - 1, []
    for i in range(n):
        z = (key + (i + 1) * 0x9E3779B97F4A7C15) & full
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
        z ^= z >> 31
        bits = (n - 1).bit_length()
        values.append(((z >> bits) << bits | i, i))
    return [i for _, i in sorted(values)]


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1000])
def test_permutation_is_the_written_one(n):
    for key in (0, 7, 2**63 - 1):
        assert permutation(n, key).tolist() == by_hand(n, key)


def test_splitmix64_is_the_published_generator():
    """First output for seed 0 is 0xE220A8397B1DCDAF (the generator's public test vector)."""
    z = 0x9E3779B97F4A7C15
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    assert z ^ (z >> 31) == 0xE220A8397B1DCDAF


def test_order_is_the_written_definition():
    blocks, window, seed, epoch = [5, 3, 0, 7, 1, 4], 6, 11, 2
    kept = np.arange(20) % 3 != 0
    starts = np.cumsum([0, *blocks])
    laid = []
    for b in by_hand(len(blocks), seed_of(seed, "order", "blocks", epoch)):
        laid += [r for r in range(starts[b], starts[b + 1]) if kept[r]]
    expected = []
    for w in range(-(-len(laid) // window)):
        part = laid[w * window : (w + 1) * window]
        expected += [part[i] for i in by_hand(len(part), seed_of(seed, "order", "window", epoch, w))]
    assert Order(table(blocks), kept, window).rows(seed, epoch, 0, len(laid)).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(sum),
    st.integers(1, 50),
    st.integers(0, 2**31),
    st.data(),
)
def test_every_kept_row_once_an_epoch_and_random_access(blocks, window, seed, data):
    n = sum(blocks)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any)))
    order = Order(table(blocks), kept, window)
    epochs = [order.rows(seed, e, 0, order.n_rows) for e in range(3)]
    for rows in epochs:
        assert sorted(rows.tolist()) == np.flatnonzero(kept).tolist()
    whole = np.concatenate(epochs)
    start = data.draw(st.integers(0, 2 * order.n_rows - 1))
    count = data.draw(st.integers(0, order.n_rows))
    assert order.rows(seed, 0, start, count).tolist() == whole[start : start + count].tolist()


def test_rows_are_evenly_mixed():
    """Over 4000 seeds each of 12 rows lands in each place equally often: chi square of 121 degrees of freedom."""
    order = Order(table([3, 4, 5]), np.ones(12, bool), 12)
    counts = np.zeros((12, 12))
    for seed in range(4000):
        counts[np.arange(12), order.rows(seed, 0, 0, 12)] += 1
    expected = 4000 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 121 + 4 * (2 * 121) ** 0.5


def test_neighbours_are_parted():
    order = Order(table([128] * 512), np.ones(2**16, bool), 2**14)
    rows = order.rows(0, 0, 0, 2**16)
    blocks = rows // 128
    assert np.mean(blocks[1:] == blocks[:-1]) < 3 / 128  # a window mixes 128 blocks: 1 in 128 by chance
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 0.05
    assert len(np.unique(blocks[: 2**12])) > 100


def test_seeds_and_epochs_differ():
    order = Order(table([16] * 16), np.ones(256, bool), 64)
    firsts = [order.rows(s, e, 0, 256).tolist() for s in (0, 1) for e in (0, 1)]
    assert len({tuple(f) for f in firsts}) == 4


def test_nothing_to_train_on_and_bad_windows_are_refused():
    with pytest.raises(BadInput, match="No row may be trained on"):
        Order(table([4]), np.zeros(4, bool))
    with pytest.raises(BadOption, match="--shuffle-rows is 0"):
        Order(table([4]), np.ones(4, bool), 0)
