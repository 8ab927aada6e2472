"""Batches for training: the same from a store and a live model, the same after a stop, text rows alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from assay.activations import LiveSource, Store, Stream, TensorSource, document_id, harvest, pack, split_of
from assay.core.errors import BadInput, BadOption, NotFound
from assay.models import load

SITES = ["resid_post.0", "mlp_out.1"]
SHUFFLE = {"seed": 5, "shuffle_rows": 300, "batch_size": 64}


@pytest.fixture(scope="module")
def blocks(bos_zero, stories):
    return pack(stories, bos_zero, context=16)


@pytest.fixture(scope="module")
def store(bos_zero, blocks, tmp_path_factory) -> Store:
    return harvest(bos_zero, SITES, blocks, tmp_path_factory.mktemp("s") / "store", shard_rows=700, quiet=True)


def table(n: int = 1000, d: int = 3) -> torch.Tensor:
    """[n, d] float64-exact values by which every row can be told."""
    return torch.arange(n * d, dtype=torch.float32).view(n, d)


def test_a_store_and_a_live_model_give_the_same_batches(bos_zero, blocks, store):
    live = LiveSource(bos_zero, blocks, SITES, batch_size=5)
    one, other = Stream(store, **SHUFFLE), Stream(live, **SHUFFLE)
    n = 2 * one.n_rows // 64 + 2
    for step, (a, b) in enumerate(zip(one.batches(0, n), other.batches(0, n))):
        assert np.array_equal(one.row_ids(step), other.row_ids(step))
        for site in SITES:
            assert a[site].shape == (64, 16)
            assert a[site].dtype == torch.float32
            torch.testing.assert_close(a[site], b[site], rtol=1e-4, atol=1e-5)
    x, y = one.sample(200, "init"), other.sample(200, "init")
    for site in SITES:
        torch.testing.assert_close(x[site], y[site], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["store", "live", "tensors"])
def test_a_stopped_stream_goes_on_bit_for_bit(kind, bos_zero, blocks, store):
    def fresh() -> Stream:
        source = {"store": lambda: Store.open(store.path), "live": lambda: LiveSource(bos_zero, blocks, SITES)}
        return Stream(source.get(kind, lambda: TensorSource(table()))(), **SHUFFLE)

    stream = fresh()
    whole = list(stream.batches(0, 40))  # over an epoch's end
    for start in (33, 6):
        resumed = fresh()
        for step in range(start, 40):
            for site, x in resumed.batch(step).items():
                assert x.equal(whole[step][site]), (step, site)
    for step in (30, 2, 39, 0):  # and in any order
        for site, x in stream.batch(step).items():
            assert x.equal(whole[step][site])


def test_rows_are_the_ones_row_ids_and_origin_name(store):
    stream = Stream(store, **SHUFFLE)
    for step in (0, 7, 31):
        rows, batch = stream.row_ids(step), stream.batch(step)
        for site in SITES:
            assert batch[site].equal(store.gather(site, rows))
        where = stream.origin(step, 9)
        assert where.row == rows[9]
        assert where.document == store.table.documents[store.table.document[rows[9]]]
        assert (where.position, where.token_id) == (store.table.position[rows[9]], store.table.token_id[rows[9]])
        assert where.document in str(where)


def test_every_kept_row_once_an_epoch_and_no_special_token_ever(store):
    stream = Stream(store, **SHUFFLE)
    n = stream.n_rows
    seen = np.concatenate([stream.row_ids(step) for step in range(3 * n // 64 + 1)])[: 3 * n]
    assert set(Counter(seen.tolist()).values()) == {3}
    t = store.table
    train = np.array([split_of(d) == "train" for d in t.documents])
    assert sorted(seen[:n].tolist()) == np.flatnonzero((t.role == 0) & train[t.document]).tolist()
    assert not t.special[seen].any()
    assert 0 not in t.token_id[seen]  # BOS is id 0


def test_the_stream_is_the_order_laid_end_to_end_over_epochs(store):
    stream = Stream(store, **SHUFFLE)
    n_steps = 3 * stream.n_rows // 64
    rows = np.concatenate([stream.row_ids(step) for step in range(n_steps)])
    assert np.array_equal(rows, stream.order.rows(5, 0, 0, 64 * n_steps))
    first, second = rows[: stream.n_rows], rows[stream.n_rows : 2 * stream.n_rows]
    assert np.mean(first == second) < 0.05


def test_splits_keep_documents_apart(store):
    parts = {split: Stream(store, split=split).document_ids() for split in ("train", "validation", "test")}
    assert set().union(*parts.values()) == set(store.table.documents) == Stream(store, split=None).document_ids()
    assert sum(map(len, parts.values())) == len(store.table.documents)
    assert all(split_of(d) == split for split, held in parts.items() for d in held)


def test_tensors_stream_in_the_same_order_and_by_document(store):
    """A table is a store whose blocks are single rows."""
    x = table(500)
    names = [document_id(f"d{i // 10}") for i in range(500)]
    stream = Stream(TensorSource({"a": x, "b": -x.double()}, documents=names), **SHUFFLE)
    kept = [i for i in range(500) if split_of(names[i]) == "train"]
    assert stream.n_rows == len(kept) < 500
    assert stream.document_ids() == {names[i] for i in kept}
    batch = stream.batch(1)
    assert batch["a"].equal(x[torch.from_numpy(stream.row_ids(1))])
    assert batch["b"].equal(-batch["a"])
    assert batch["b"].dtype == torch.float32
    assert Stream(TensorSource(x)).n_rows == 500


def test_batches_larger_than_epochs_wrap(store):
    stream = Stream(TensorSource(table(10)), batch_size=37, shuffle_rows=4)
    counts = Counter(np.concatenate([stream.row_ids(s) for s in range(10)]).tolist())
    assert set(counts.values()) == {37}
    assert stream.batch(0)["x"].shape == (37, 3)


def test_samples_are_distinct_rows_depend_on_the_name_and_leave_the_stream_alone():
    stream = Stream(TensorSource(table(3000)), **SHUFFLE)
    before = stream.batch(3)["x"]
    one, two = stream.sample(400, "init")["x"], stream.sample(400, "scale")["x"]
    assert len({tuple(r) for r in one.tolist()}) == 400
    assert not one.equal(two)
    assert one.equal(Stream(TensorSource(table(3000)), **SHUFFLE).sample(400, "init")["x"])
    assert stream.batch(3)["x"].equal(before)
    assert stream.sample(10**6, "all")["x"].shape == (3000, 3)
    places = torch.cat([stream.sample(300, f"n{i}")["x"][:, 0] for i in range(40)]) / (3 * 3000)
    assert float(places.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / 12000) ** 0.5)


def test_a_sample_of_a_live_model_reads_a_few_blocks(bos_zero, blocks):
    class Counting(LiveSource):
        n = 0

        def fetch(self, rows, sites):
            Counting.n = len(np.unique(np.searchsorted(self.table.starts, rows, side="right")))
            return super().fetch(rows, sites)

    Stream(Counting(bos_zero, blocks, SITES)).sample(20, "init")
    assert Counting.n <= 4 * 20 / 12 + 3  # at least 12 kept rows a block


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_row_is_named(value, store):
    names = [document_id(f"d{i // 50}") for i in range(1000)]
    x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    row = next(i for i in range(700, 1000) if split_of(names[i]) == "train")
    x[row, 5] = value
    for stream in (Stream(TensorSource(x, documents=names)), Stream(Disk(x, names))):
        with pytest.raises(BadInput) as error:
            list(stream.batches(0, 1))
        assert f"Activations at x are not finite: {value} at document {names[row]}, position {row}" in str(error.value)
        assert f"row {row}, dimension 5" in str(error.value)


class Disk(TensorSource):
    """Plain tensors that are read through windows, as a store is."""

    in_memory = False

    def __init__(self, x, names=None):
        super().__init__(x, documents=names)

    def fetch(self, rows, sites):
        assert (np.diff(rows) > 0).all()
        return super().fetch(rows, sites)


def test_a_very_large_finite_row_is_not_refused():
    x = torch.full((100, 4), 3e38)
    x[::2] *= 0.5
    Stream(TensorSource(x)).batch(0)


def test_a_constant_site_is_named_and_refused():
    x = torch.full((1000, 8), 0.1) + 1e-9 * torch.randn(1000, 8)
    for values in (x, torch.zeros(1000, 8)):
        stream = Stream(Disk({"good": torch.randn(1000, 2), "mlp_out.1": values}), batch_size=16)
        for ask in (lambda s=stream: s.batch(0), lambda s=stream: s.sample(100, "init")):
            with pytest.raises(BadInput, match=r"Activations at mlp_out\.1 are constant"):
                ask()


def test_only_the_window_in_use_is_held(store):
    stream = Stream(store, **SHUFFLE)
    for step in range(30):
        stream.batch(step)
        held = stream._window._tensors
        assert all(len(x) <= 300 for x in held.values())


def test_wrong_options_are_refused_in_words(store):
    with pytest.raises(NotFound, match=r'no site "mlp_out\.7".*Did you mean "mlp_out\.1"'):
        Stream(store, ["mlp_out.7"])
    with pytest.raises(BadOption, match="--batch-size is 0"):
        Stream(store, batch_size=0)
    with pytest.raises(BadOption, match="--shuffle-rows is -1"):
        Stream(store, shuffle_rows=-1)
    with pytest.raises(BadOption, match="A sample of 1 rows"):
        Stream(store).sample(1, "x")
    with pytest.raises(BadInput, match="single row"):
        Stream(TensorSource(torch.ones(1, 4)))
    for bad in ({}, torch.ones(3), {"a": torch.ones(3, 2), "b": torch.ones(4, 2)}, torch.ones(3, 2, dtype=torch.int32)):
        with pytest.raises(BadInput, match="one n are needed"):
            TensorSource(bad)


def test_provenance_can_be_written(store):
    import json

    said = Stream(store, **SHUFFLE).describe()
    assert json.loads(json.dumps(said)) == said
    assert said["split"] == "train"
    assert said["n_documents"] == len(Stream(store).document_ids())


def test_a_real_model_streams_alike_from_disk_and_live(shared_data, tmp_path):
    from assay.activations import documents

    model = load(str(shared_data / "models" / "stories260k"))
    text = documents(str(shared_data / "text" / "tinystories-train.jsonl.gz"), limit=12)
    packed = pack(text, model, context=64)
    held = harvest(model, ["resid_post.1"], packed, tmp_path / "s", quiet=True)
    one = Stream(held, seed=1, shuffle_rows=512, batch_size=100)
    other = Stream(LiveSource(model, packed, ["resid_post.1"], batch_size=3), seed=1, shuffle_rows=512, batch_size=100)
    for step in (0, 4, 5, 11):
        a, b = one.batch(step)["resid_post.1"], other.batch(step)["resid_post.1"]
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        decoded = model.tokenizer.decode([one.origin(step, 0).token_id])
        assert decoded not in ("<s>", "</s>")
