"""Tiny models with word-level tokenizers: a causal one whose BOS is id 0, one without BOS, an encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from assay.activations import Document, document_id
from assay.models import Model

WORDS = [f"w{i}" for i in range(60)]


def tokenizer(specials: list[str], template: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate([*specials, "a", *WORDS])}
    bare = Tokenizer(models.WordLevel(vocabulary, unk_token=specials[-1]))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bare.add_special_tokens(specials)
    if template is not None:
        ids = [(word, vocabulary[word]) for word in specials]
        bare.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=bare, unk_token=specials[-1], **named)


@pytest.fixture(scope="session")
def bos_zero() -> Model:
    """Causal, BOS = EOS = id 0; its tokenizer adds the BOS by itself when asked for special tokens."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    own = tokenizer(["<bos>", "<unk>"], "<bos> $A", bos_token="<bos>", eos_token="<bos>")
    return Model(GPTNeoXForCausalLM(config), own, "bos-zero")


@pytest.fixture(scope="session")
def no_bos() -> Model:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=64, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    return Model(Qwen2ForCausalLM(config), tokenizer(["<eos>", "<unk>"], eos_token="<eos>"), "no-bos")


@pytest.fixture(scope="session")
def encoder() -> Model:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=66, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    own = tokenizer(
        ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[CLS] $A [SEP]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    return Model(BertModel(config), own, "encoder")


def story(n: int, first: int) -> Document:
    text = " ".join(WORDS[(first * 7 + 3 * i + i * i * first) % len(WORDS)] for i in range(n)) + f" w{first % 60}"
    return Document(document_id(text), text)


@pytest.fixture(scope="session")
def stories() -> list[Document]:
    """40 documents of 3 to 100 words."""
    return [story(2 + (37 * i) % 98, i + 1) for i in range(40)]


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, rows: list[object]) -> str:
        path = tmp_path / name
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
        return str(path)

    return write
