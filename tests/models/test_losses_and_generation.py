"""Cross-entropy against transformers' own, and writing on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import CAUSAL
from torch import Tensor

from assay.core.errors import BadInput, BadOption
from assay.models import generate, token_losses


@pytest.mark.parametrize("family", CAUSAL)
def test_losses_are_those_of_transformers(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    losses = token_losses(model, ids)
    assert losses.shape == (2, 8)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.mean(), model.hf(input_ids=ids, labels=ids).loss, atol=1e-5, rtol=1e-5)


def test_losses_beside_padding_are_zero_and_the_rest_is_unmoved(tiny: Any, ids: Tensor) -> None:
    model = tiny("gpt2")
    alone = token_losses(model, ids[1:, :5])
    for side in ("left", "right"):
        batch, mask = ids.clone(), torch.ones_like(ids, dtype=torch.bool)
        at = slice(4, 9) if side == "left" else slice(0, 5)
        batch[1], mask[1] = 0, False
        batch[1, at], mask[1, at] = ids[1, :5], True
        losses = token_losses(model, batch, mask)
        counted = mask[:, 1:] & mask[:, :-1]
        assert not losses[~counted].any()
        torch.testing.assert_close(losses[1][counted[1]], alone[0], atol=1e-5, rtol=1e-5)


def test_an_encoder_has_no_loss_and_says_so(tiny: Any, ids: Tensor) -> None:
    model = tiny("bert")
    assert not model.is_causal_lm
    for call in (lambda: token_losses(model, ids), lambda: model.logits(ids), lambda: generate(model, ids, None, 2)):
        with pytest.raises(BadInput, match="encoder"):
            call()


def test_greedy_is_the_argmax_of_each_step(tiny: Any, ids: Tensor) -> None:
    model, text = tiny("qwen3"), ids
    for _ in range(5):
        text = torch.cat([text, model.logits(text)[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(generate(model, ids, None, 5, stop_ids=()), text[:, 9:])


@pytest.mark.parametrize("family", CAUSAL)
def test_only_the_last_logits_are_computed_while_writing(family: str, tiny: Any, ids: Tensor) -> None:
    assert tiny(family).forward(ids, last_logits=True).logits.shape == (2, 1, 61)


def test_a_row_ends_at_a_stop_token(tiny: Any, ids: Tensor) -> None:
    model = tiny("llama")
    free = generate(model, ids, None, 10, stop_ids=())
    stop = int(free[0, 2])
    assert stop not in free[0, :2].tolist()
    for cache in (True, False):
        made = generate(model, ids, None, 10, stop_ids=[stop], use_cache=cache)
        assert made[0, :3].tolist() == free[0, :3].tolist()
        assert (made[0, 3:] == model.pad_id).all()
        n = (free[1].tolist() + [stop]).index(stop)
        assert made[1, :n].tolist() == free[1, :n].tolist()
    assert generate(model, ids[:1], None, 10, stop_ids=[stop]).shape == (1, 3)


def test_sampling_follows_the_softmax_and_the_generator(tiny: Any, ids: Tensor) -> None:
    model = tiny("gpt2")
    many = ids[:1].expand(4000, -1)
    rng = lambda seed: torch.Generator().manual_seed(seed)
    token = generate(model, many, None, 1, temperature=1.7, rng=rng(0), stop_ids=())[:, 0]
    chances = (model.logits(ids[:1])[0, -1] / 1.7).softmax(-1)
    found = torch.bincount(token, minlength=61) / 4000
    assert (found - chances).abs().sum() / 2 < 0.05  # total variation; sampling noise is about .04 at most
    twice = [generate(model, ids, None, 8, temperature=1.0, rng=rng(s), stop_ids=()) for s in (1, 1, 2)]
    assert torch.equal(twice[0], twice[1])
    assert not torch.equal(twice[0], twice[2])
    slow = generate(model, ids, None, 8, temperature=1.0, rng=rng(1), stop_ids=(), use_cache=False)
    assert torch.equal(twice[0], slow)


def test_bad_requests_are_refused_in_words(tiny: Any, ids: Tensor) -> None:
    model = tiny("gpt2")
    with pytest.raises(BadOption, match="rng"):
        generate(model, ids, None, 2, temperature=1.0)
    with pytest.raises(BadOption, match="temperature"):
        generate(model, ids, None, 2, temperature=-1.0)
    with pytest.raises(BadOption, match="temperature"):
        generate(model, ids, None, 2, temperature=float("nan"))
    with pytest.raises(BadOption, match="max_new_tokens"):
        generate(model, ids, None, 0)
    with pytest.raises(BadInput, match="at most 64"):
        generate(model, ids, None, 60)
    with pytest.raises(BadInput, match="empty"):
        generate(model, ids, torch.zeros_like(ids), 2)
