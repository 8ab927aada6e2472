"""What ships is small, whole, new to the model, and as good as its card says."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assay.core import shipped
from assay.core.errors import Corrupt, NotFound
from assay.worlds.card import page, token_losses
from assay.worlds.storyworld import stories
from assay.worlds.train_storyworld import encode


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((shipped.path("storyworld") / "card.json").read_text())


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(shipped.path("storyworld"))


def test_everything_that_ships_is_under_five_megabytes() -> None:
    sizes = [file.stat().st_size for file in shipped.DATA.rglob("*") if file.is_file()]
    assert 1_000_000 < sum(sizes) < 5_000_000


def test_an_unknown_name_is_refused_and_the_nearest_one_named() -> None:
    assert "storyworld" in shipped.names()
    assert "storyworld" in shipped.texts()
    for lookup in (shipped.path, shipped.text_path):
        with pytest.raises(NotFound, match='Did you mean "storyworld"'):
            lookup("storyword")


def test_names_cost_no_torch() -> None:
    code = "import assay.core.shipped as s, sys; next(s.stories()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_torn_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % i for i in range(9999)))
    (tmp_path / "storyworld").mkdir()
    file = tmp_path / "storyworld" / "stories.jsonl.gz"
    monkeypatch.setattr(shipped, "DATA", tmp_path)
    with pytest.raises(NotFound, match="missing"):
        next(shipped.stories())
    bad_block = whole[:12] + b"\xff\xff" + whole[14:]  # a zlib error, where a wrong checksum is a gzip one
    for torn in (whole[: len(whole) // 2], b"no gzip", bad_block, gzip.compress(b"{torn")):
        file.write_bytes(torn)
        with pytest.raises(Corrupt, match=re.escape(str(file))):
            list(shipped.stories())
    file.write_bytes(whole)
    assert [s["text"] for s in shipped.stories(limit=3)] == ["0", "1", "2"]


def test_the_shipped_text_is_the_generators_heldout_stream(card: dict) -> None:
    told = stories(300, card["options"]["seed"], "heldout")
    for found, expected in zip(shipped.stories(limit=300), told):
        assert found == {"text": expected.text, **expected.labels}


def test_the_shipped_text_shares_no_story_with_training(card: dict) -> None:
    texts = [s["text"] for s in shipped.stories()]
    assert len(texts) == card["heldout"]["n_stories"] == len(set(texts))
    train = {s.text for s in islice(stories(card["options"]["n_train"], card["options"]["seed"], "train"), 4000)}
    assert train.isdisjoint(texts)


def test_a_story_fits_the_context_and_survives_the_tokenizer(card: dict, tokenizer) -> None:
    texts = [s["text"] for s in shipped.stories(limit=500)]
    ids = tokenizer(texts)["input_ids"]
    assert tokenizer.bos_token_id == 0
    assert max(map(len, ids)) < card["options"]["context"]
    assert tokenizer.batch_decode(ids) == texts
    strange = 'Über 3 "cats" — ✓\n'
    assert tokenizer.decode(tokenizer(strange)["input_ids"]) == strange


def test_the_model_has_the_loss_of_its_card_and_beats_the_baselines(card: dict, tokenizer) -> None:
    model = AutoModelForCausalLM.from_pretrained(shipped.path("storyworld"), dtype=torch.float32)
    assert "gelu" in model.config.activation_function
    assert sum(p.numel() for p in model.parameters()) == card["n_parameters"]
    texts = [s["text"] for s in shipped.stories(limit=card["sample"]["n_stories"])]
    losses = token_losses(model, encode(tokenizer, texts))
    nats = sum(float(x.sum()) for x in losses) / sum(map(len, losses))
    assert nats == pytest.approx(card["sample"]["nats"], abs=5e-4)
    stated = card["losses"]
    assert nats == pytest.approx(stated["model"]["nats"], abs=0.05)
    for name in ("unigram", "bigram", "trigram"):
        assert stated["model"]["hi"] < stated[name]["lo"]
        assert nats < stated[name]["lo"]


def test_the_page_states_the_numbers_of_the_card(card: dict) -> None:
    assert (shipped.path("storyworld") / "README.md").read_text() == page(card)
    assert f"| model | {card['losses']['model']['nats']:.3f} |" in page(card)
