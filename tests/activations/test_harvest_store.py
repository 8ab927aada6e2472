"""Harvest and store: the right numbers in the right rows, and every damage named."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from assay.activations import Store, harvest, pack, shards, unpacked
from assay.core.errors import AssayError, BadInput, BadOption, Corrupt, NotFound, Storage
from assay.models import load, read

SITES = ["resid_post.0", "mlp_out.1"]
ROWS = 500  # a shard


@pytest.fixture
def small(bos_zero, stories, tmp_path) -> Store:
    return harvest(
        bos_zero, SITES, pack(stories, bos_zero, context=16), tmp_path / "store", shard_rows=ROWS, quiet=True
    )


def test_each_row_is_the_models_activation_of_its_token(bos_zero, stories, small):
    blocks = pack(stories, bos_zero, context=16)
    table = small.table
    for name in ("token_id", "document", "position", "role", "block_rows"):
        assert np.array_equal(getattr(table, name), getattr(blocks.table, name))
    for b in (0, 5, len(blocks) - 1):
        a, z = table.starts[b], table.starts[b + 1]
        ids = torch.from_numpy(table.token_id[a:z].astype(np.int64))[None]
        expected = read(bos_zero, ids, torch.ones_like(ids), SITES, stop=False)
        for site in SITES:
            got = small.gather(site, np.arange(a, z))
            torch.testing.assert_close(got, expected[site][0], rtol=1e-5, atol=1e-6)


def test_shards_have_one_size_and_columns_are_on_disk(small):
    n = small.n_rows
    files = sorted((small.path / "mlp_out.1").iterdir())
    assert [len(load_file(f)["x"]) for f in files] == [ROWS] * (n // ROWS) + [n % ROWS]
    columns = load_file(small.path / "columns.safetensors")
    assert columns["special"].equal(columns["role"] == 1)
    assert set(columns) == {"token_id", "document", "position", "role", "special", "block_rows"}
    assert columns["special"].sum() > 40


def test_padding_does_not_change_results(bos_zero, encoder, stories, tmp_path):
    for model in (bos_zero, encoder):
        blocks = unpacked(stories, model, context=32)
        store = harvest(model, SITES, blocks, tmp_path / model.name, batch_size=7, quiet=True)
        for b in (0, 3, 17, 39):
            rows = np.arange(*blocks.table.starts[b : b + 2])
            ids = torch.from_numpy(blocks.table.token_id[rows].astype(np.int64))[None]
            alone = read(model, ids, torch.ones_like(ids), SITES)
            for site in SITES:
                torch.testing.assert_close(store.gather(site, rows), alone[site][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_precision_stores_round_once(bos_zero, stories, small, tmp_path, dtype, tolerance):
    half = harvest(bos_zero, SITES, pack(stories, bos_zero, context=16), tmp_path / "h", dtype=dtype, quiet=True)
    rows = np.arange(small.n_rows)
    for site in SITES:
        exact, rounded = small.gather(site, rows), half.gather(site, rows)
        assert rounded.dtype == torch.float32
        assert ((exact - rounded).abs() <= tolerance * exact.abs() + 1e-6).all()
        assert not exact.equal(rounded)


def test_gather_takes_any_order_repeats_and_refuses_rows_it_has_not(small):
    every = small.gather("mlp_out.1", np.arange(small.n_rows))
    rows = np.random.default_rng(0).integers(0, small.n_rows, 500)
    assert small.gather("mlp_out.1", rows).equal(every[torch.from_numpy(rows)])
    assert small.gather("mlp_out.1", np.zeros(0, int)).shape == (0, 16)
    for bad in (-1, small.n_rows):
        with pytest.raises(BadOption, match="were asked for"):
            small.gather("mlp_out.1", np.array([0, bad]))
    with pytest.raises(NotFound, match=r'Did you mean "mlp_out\.1"'):
        small.gather("mlp_out.2", np.array([0]))


def test_a_result_is_refused_unless_resumed_and_finished_ones_stay(bos_zero, stories, small):
    blocks = pack(stories, bos_zero, context=16)
    before = {p: p.stat().st_mtime_ns for p in small.path.rglob("*") if p.is_file()}
    with pytest.raises(BadOption, match="already holds a result; continue it with --resume"):
        harvest(bos_zero, SITES, blocks, small.path, shard_rows=ROWS)
    again = harvest(bos_zero, SITES, blocks, small.path, shard_rows=ROWS, resume=True)
    assert again.n_rows == small.n_rows
    assert before == {p: p.stat().st_mtime_ns for p in small.path.rglob("*") if p.is_file()}


def test_resume_with_something_else_is_refused_in_words(bos_zero, no_bos, stories, small):
    blocks = pack(stories, bos_zero, context=16)
    for model, sites, given, options, words in (
        (bos_zero, SITES, pack(stories[1:], bos_zero, context=16), {}, "another text"),
        (bos_zero, SITES[:1], blocks, {}, "sites"),
        (bos_zero, SITES, blocks, {"dtype": "float16"}, "dtype 'float32', not 'float16'"),
        (no_bos, SITES, blocks, {}, "model 'bos-zero', not 'no-bos'"),
    ):
        with pytest.raises(BadOption, match="was begun with") as error:
            harvest(model, sites, given, small.path, shard_rows=ROWS, resume=True, **options)
        assert words in str(error.value)


def change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_torn_altered_and_missing_shards_are_named(small):
    every = np.arange(small.n_rows)
    victim = small.path / "mlp_out.1" / "00002.safetensors"
    whole = victim.read_bytes()
    for damage in (lambda: change(victim, -5), lambda: victim.write_bytes(whole[:-100]), victim.unlink):
        damage()
        store = Store.open(small.path)  # lazy: the damage is met when the shard is first touched
        store.gather("mlp_out.1", every[:400])
        store.gather("resid_post.0", every)
        for touch in (lambda s=store: s.gather("mlp_out.1", every), store.verify):
            with pytest.raises(Corrupt, match=r"mlp_out\.1/00002\.safetensors"):
                touch()
        victim.write_bytes(whole)
    assert Store.open(small.path).verify() == 2 * -(-small.n_rows // ROWS) + 2


def test_altered_columns_and_manifests_are_named(small):
    for name, words in (("columns.safetensors", "differs"), ("documents.json", "differs"), ("manifest.json", "")):
        whole = (small.path / name).read_bytes()
        (small.path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(Corrupt, match=f"{name}.*{words}"):
            Store.open(small.path)
        (small.path / name).unlink()
        with pytest.raises((Corrupt, NotFound), match=name):
            Store.open(small.path)
        (small.path / name).write_bytes(whole)
    Store.open(small.path)
    with pytest.raises(NotFound, match="no such folder"):
        Store.open(small.path / "gone")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", 7, "schema 7; this version reads schema 1"),
        ("n_rows", 5, "recorded checksum"),
        ("shards", None, 'no usable "shards"'),
        ("kind", "dictionary", "not the manifest of activations"),
    ],
)
def test_a_wrong_manifest_is_refused(small, key, value, words):
    path = small.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(Corrupt) as error:
        Store.open(small.path)
    assert words in str(error.value)


def test_a_shard_of_another_shape_is_named_even_with_a_right_checksum(small):
    path = small.path / "mlp_out.1" / "00000.safetensors"
    save_file({"x": torch.zeros(3, 16)}, path)
    manifest = shards.read_manifest(small.path)
    manifest["shards"][0]["mlp_out.1"] = shards.sha256_file(path)
    shards.write_manifest(small.path, manifest)
    with pytest.raises(Corrupt, match=r"00000\.safetensors holds \[3, 16\]"):
        Store.open(small.path).gather("mlp_out.1", np.array([0]))


def test_no_site_name_leads_out_of_the_folder(tmp_path):
    for site in ("../../etc", "/etc/x", "..", ".hidden", "a/b"):
        path = (tmp_path / shards.shard_name(site, 0)).resolve()
        assert path.is_relative_to(tmp_path)
        assert path.parent.name.startswith("site-")
    assert shards.shard_name("model.layers.0.mlp", 3) == "model.layers.0.mlp/00003.safetensors"


class Poisoned:
    """A model whose embedding of one token is NaN, or huge."""

    def __init__(self, model, token: int, value: float) -> None:
        self.weight = model.hf.get_input_embeddings().weight
        self.token, self.value = token, value

    def __enter__(self):
        self.kept = self.weight[self.token].clone()
        self.weight.data[self.token] = self.value

    def __exit__(self, *_):
        self.weight.data[self.token] = self.kept


def test_a_non_finite_activation_stops_with_its_origin_and_keeps_what_is_whole(bos_zero, stories, tmp_path):
    blocks = pack(stories, bos_zero, context=16)
    table = blocks.table
    token = next(t for t in range(3, 60) if (table.token_id == t).any() and np.argmax(table.token_id == t) > 400)
    row = int(np.argmax(table.token_id == token))
    with Poisoned(bos_zero, token, float("nan")):
        with pytest.raises(BadInput) as error:
            harvest(bos_zero, ["embed"], blocks, tmp_path / "s", shard_rows=100, batch_size=4, quiet=True)
        where = f"document {table.document_of(row)}, position {table.position[row]}, token {token}, row {row}"
        assert f"Activations at embed are not finite: nan at {where}" in str(error.value)
        with pytest.raises(BadInput, match="unfinished harvest"):
            Store.open(tmp_path / "s")
        manifest = shards.read_manifest(tmp_path / "s")
        assert 0 < len(manifest["shards"]) * 100 <= row
        for i, shard in enumerate(manifest["shards"]):
            shards.check_file(tmp_path / "s", shards.shard_name("embed", i), shard["embed"])


def test_a_number_too_large_for_float16_is_named_as_such(bos_zero, stories, tmp_path):
    with Poisoned(bos_zero, 7, 1e5):
        with pytest.raises(BadInput, match=r"too large for float16.*--store-dtype"):
            harvest(bos_zero, ["embed"], pack(stories, bos_zero), tmp_path / "s", dtype="float16", quiet=True)


def test_a_full_disk_is_one_sentence_and_the_rest_can_be_resumed(bos_zero, stories, small, tmp_path, monkeypatch):
    blocks, out, fsync, left = pack(stories, bos_zero, context=16), tmp_path / "full", os.fsync, [18]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Storage, match="is full; what was complete is kept"):
            harvest(bos_zero, SITES, blocks, out, shard_rows=ROWS, quiet=True)
    assert len(shards.read_manifest(out)["shards"]) > 0
    assert not list(out.rglob(".*.tmp"))
    harvest(bos_zero, SITES, blocks, out, shard_rows=ROWS, resume=True, quiet=True)
    assert bytes_of(out) == bytes_of(small.path)


def test_too_little_room_is_said_before_the_work(bos_zero, stories, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 10))
    with pytest.raises(Storage, match="GB free; use --store-dtype bfloat16"):
        harvest(bos_zero, SITES, pack(stories, bos_zero), tmp_path / "s")


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "provenance.json"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize("options", [{"dtype": "float8"}, {"batch_size": 0}, {"shard_rows": 0}])
def test_bad_options_are_refused(bos_zero, stories, tmp_path, options):
    with pytest.raises(AssayError):
        harvest(bos_zero, SITES, pack(stories, bos_zero), tmp_path / "s", **options)
    with pytest.raises(BadOption, match="No site"):
        harvest(bos_zero, [], pack(stories, bos_zero), tmp_path / "s")


def test_a_file_in_the_way_is_refused(bos_zero, stories, tmp_path):
    (tmp_path / "s").write_text("mine")
    with pytest.raises(AssayError, match="already holds"):
        harvest(bos_zero, SITES, pack(stories, bos_zero), tmp_path / "s")
    assert (tmp_path / "s").read_text() == "mine"


def test_provenance_says_what_was_read_and_masked(small, bos_zero):
    said = small.provenance
    assert said["weights_hash"] == bos_zero.weights_hash()
    assert said["frame"]["prefix"] == [0]
    assert said["bos"] == "before every document and block"
    assert "weights_hash" in small.describe()


def test_a_real_model(shared_data, tmp_path):
    from assay.activations import documents

    model = load(str(shared_data / "models" / "stories260k"))
    blocks = pack(documents(str(shared_data / "text" / "tinystories-heldout.jsonl.gz"), limit=20), model, context=128)
    store = harvest(model, ["resid_post.2", "mlp_act.0"], blocks, tmp_path / "s", quiet=True)
    assert [store.width(s) for s in store.sites] == [64, 172]
    text = model.tokenizer.decode(store.table.token_id[: store.table.starts[1]].tolist())
    assert text.startswith("<s>")
    norms = store.gather("resid_post.2", np.flatnonzero(~store.table.special)).norm(dim=1)
    assert 4 < float(norms.mean()) < 7  # about 5.0-6.8 after layer 3 is on record
