"""The training script: a run that was stopped and continued gives the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from assay.core.errors import BadOption
from assay.worlds import train_storyworld as script
from assay.worlds.storyworld import stories

SMALL = dict(n_steps=6, batch_size=2, n_layer=1, d_model=16, n_head=2, context=32, vocab_size=320, checkpoint_every=2)


def test_a_stopped_run_continues_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [s.text for s in stories(40, 0, "train")]
    whole, parts = (script.Options(**SMALL, work=tmp_path / name) for name in ("whole", "parts"))
    tokenizer = script.train_tokenizer(texts, 320, 32)
    documents = script.encode(tokenizer, texts)
    one, two = script.build(whole), script.build(parts)
    start = {name: p.clone() for name, p in one.state_dict().items()}
    script.train(one, documents, whole)

    def stops(*args: object) -> Iterator[torch.Tensor]:
        for step, ids in enumerate(script_batches(*args)):
            if step == 5:
                raise KeyboardInterrupt
            yield ids

    script_batches = script.batches
    monkeypatch.setattr(script, "batches", stops)
    with pytest.raises(KeyboardInterrupt):
        script.train(two, documents, parts)
    monkeypatch.undo()
    again = script.build(parts)
    script.train(again, documents, parts)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not torch.equal(start["transformer.h.0.attn.c_attn.weight"], one.transformer.h[0].attn.c_attn.weight)
    assert not torch.equal(start["transformer.wte.weight"], one.transformer.wte.weight)


def test_blocks_are_consecutive_text_and_half_begin_with_a_story() -> None:
    documents = [[0, *range(i * 100 + 1, i * 100 + 40)] for i in range(30)]
    options = script.Options(**dict(SMALL, batch_size=8))
    stream = [token for document in documents for token in document]
    for ids in script.batches(documents, options, 0):
        assert ids.shape == (8, 32)
        assert (ids[:4, 0] == 0).all()
        for row in ids.tolist():
            assert any(stream[i : i + 32] == row for i in range(len(stream) - 31))


def test_contradictory_options_are_refused() -> None:
    with pytest.raises(BadOption, match="--d-model"):
        script.Options(d_model=30, n_head=4)
