"""Opening a folder, and every way in which that can go wrong: one sentence, no traceback of someone else's."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import BUILDERS, scramble
from tokenizers import Tokenizer, models, pre_tokenizers

from assay.core.errors import AssayError, BadInput, BadOption, Corrupt, NotFound, Unreachable
from assay.models import load


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    net = BUILDERS["llama"]()
    scramble(net)
    net.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = hf.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    named.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_saved_model_comes_back(saved: Path) -> None:
    model = load(str(saved))
    net = BUILDERS["llama"]()
    scramble(net)
    ids = torch.tensor([[1, 3, 4, 3]])
    assert torch.equal(model.logits(ids), net.eval()(ids).logits)
    assert model.source == str(saved)
    assert (model.name, model.family, model.n_layers, model.d_model) == ("tiny", "llama", 3, 16)
    assert (model.bos_id, model.eos_id, model.special_ids, model.stop_ids) == (1, 2, {1, 2}, {2})
    assert (model.context, model.vocab_size, model.is_causal_lm) == (64, 61, True)
    assert model.tokenizer("a b", add_special_tokens=False).input_ids == [3, 4]
    assert not any(p.requires_grad for p in model.hf.parameters())
    assert not model.hf.training


def test_what_ships_is_opened_by_name_whatever_lies_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "storyworld").mkdir()
    monkeypatch.chdir(tmp_path)
    model = load("storyworld")
    assert (model.name, model.source, model.is_causal_lm) == ("storyworld", "storyworld", True)
    assert "resid_post.0" in model.sites()


def test_the_weights_hash_is_that_of_the_weights(saved: Path) -> None:
    first, second = load(saved), load(saved)
    assert first.weights_hash() == second.weights_hash()
    with torch.no_grad():
        next(second.hf.parameters()).view(-1)[0] += 1e-6
    assert first.weights_hash() != second.weights_hash()


def test_other_types_of_number(saved: Path) -> None:
    model = load(saved, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert model.logits(torch.tensor([[1, 3]])).dtype == torch.bfloat16


def test_a_tokenizer_with_an_unusable_class_is_read_from_its_file(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "NobodyTokenizer", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "mine.py").write_text("raise SystemExit('code of the model was run')\n")
    model = load(folder)
    assert model.tokenizer("a b", add_special_tokens=False).input_ids == [3, 4]
    assert (model.bos_id, model.eos_id) == (1, 2)


def test_an_encoder_comes_as_an_encoder(tmp_path: Path, saved: Path) -> None:
    net = hf.BertForMaskedLM(hf.BertConfig(**{**BUILDERS["bert"]().config.to_dict(), "architectures": None}))
    net.save_pretrained(tmp_path / "bert")
    shutil.copy(saved / "tokenizer.json", tmp_path / "bert")
    model = load(tmp_path / "bert")
    assert not model.is_causal_lm
    assert model.family == "bert"
    assert load(tmp_path / "bert").weights_hash() == model.weights_hash()  # nothing random was filled in


BREAKS: dict[str, tuple[Any, type[AssayError], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), BadInput, "no model.safetensors"),
    "pickled": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        BadInput,
        "pickled weights.*never opened",
    ),
    "torn weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
        Corrupt,
        "cannot be read",
    ),
    "garbage": (lambda f: (f / "model.safetensors").write_bytes(b"garbage" * 9), Corrupt, "cannot be read"),
    "lacking": (lambda f: change_config(f, num_hidden_layers=4), Corrupt, "lack .* tensors"),
    "other shape": (lambda f: change_config(f, intermediate_size=44), Corrupt, "cannot be read|lack"),
    "torn config": (lambda f: (f / "config.json").write_text('{"model_type": "lla'), Corrupt, "not readable JSON"),
    "odd config": (lambda f: change_config(f, num_hidden_layers="many"), Corrupt, "not a usable config|cannot be read"),
    "no config": (lambda f: (f / "config.json").unlink(), NotFound, "no config.json"),
    "own code": (
        lambda f: change_config(f, model_type="mine", auto_map={"AutoConfig": "mine.C"}),
        BadInput,
        "code of its own, which is never run",
    ),
    "unknown type": (lambda f: change_config(f, model_type="lama"), BadInput, "does not know"),
    "two halves": (lambda f: (f / "config.json").write_text('{"model_type": "t5"}'), BadInput, "encoder and a decoder"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), BadInput, "adapter"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("tokenizer*")], BadInput, "tokenizer.json is needed"),
    "torn tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"version"'), Corrupt, "tokenizer"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_folder_is_refused_in_one_sentence(how: str, folder: Path) -> None:
    break_it, kind, says = BREAKS[how]
    break_it(folder)
    with pytest.raises(kind, match=says) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_code_beside_a_known_model_is_not_run(folder: Path) -> None:
    change_config(folder, auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    (folder / "mine.py").write_text("raise SystemExit('code of the model was run')\n")
    assert type(load(folder).hf) is hf.LlamaForCausalLM


def test_unknown_places_and_options(saved: Path) -> None:
    for name in ("/nowhere/at/all", "./missing", "a/b/c", "../gone", "what is this"):
        with pytest.raises(NotFound, match="does not exist"):
            load(name)
    with pytest.raises(NotFound, match="is a file"):
        load(saved / "config.json")
    with pytest.raises(BadOption, match='Did you mean "float32"'):
        load(saved, dtype="flaot32")
    for device in ("gpuu", "meta:x", "cuda:99"):
        with pytest.raises(BadOption, match="--device"):
            load(saved, device=device)


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    start = time.monotonic()
    with pytest.raises(Unreachable, match="does not answer"):
        load("somebody/some-model")
    with pytest.raises(Unreachable, match="offline"):
        load("somebody/some-model", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="offline"):
        load("gpt2")
    assert time.monotonic() - start < 5
