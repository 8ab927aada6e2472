"""Fixtures of evaluation: a tiny random GPT-2 and documents for it."""

from __future__ import annotations

import pytest
import torch
import transformers
from known_dictionaries import WORDS, D, tokenizer

from assay.activations import Document, document_id
from assay.models import Model


@pytest.fixture(scope="session")
def model() -> Model:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=43, n_embd=D, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    network = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.25 * torch.randn(parameter.shape))
    return Model(network, tokenizer(), name="tiny")


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """40 documents of 1 to 14 words; a special token stands inside every fifth."""
    rng = torch.Generator().manual_seed(5)
    texts: list[str] = []
    for _ in range(40):
        n = int(torch.randint(1, 15, (), generator=rng))
        words = [WORDS[int(i)] for i in torch.randint(40, (n,), generator=rng)]
        if len(texts) % 5 == 4:
            words.insert(len(words) // 2 + 1, "<s>")
        texts.append(" ".join(words))
    return [Document(document_id(text), text) for text in dict.fromkeys(texts)]
