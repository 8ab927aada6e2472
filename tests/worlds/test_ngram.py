"""The baselines are proper distributions and choose their constants on validation."""

from __future__ import annotations

import numpy as np
import pytest

from assay.worlds.card import repeated
from assay.worlds.ngram import NGrams, baselines

TRAIN = [[0, 1, 2, 1, 2, 3], [0, 1, 2, 3], [0, 3, 1, 2], [0, 2, 4]]
V = 5


@pytest.mark.parametrize("context", [[0, 1], [1, 2], [4, 4], [2, 4]], ids=["start", "seen", "unseen", "half seen"])
def test_each_model_sums_to_one_over_the_vocabulary(context: list[int]) -> None:
    grams = NGrams(TRAIN, V)
    endings = [[*context, w] for w in range(V)]
    assert sum(grams.unigram([e[1:] for e in endings], 0.3)) == pytest.approx(1)
    assert sum(grams.bigram([e[1:] for e in endings], 0.3)) == pytest.approx(1)
    assert sum(grams.trigram([e], (0.6, 0.3), 0.3)[-1] for e in endings) == pytest.approx(1)


def test_small_counts_by_hand() -> None:
    grams = NGrams(TRAIN, V)
    # targets: 1 2 1 2 3 | 1 2 3 | 3 1 2 | 2 4 -> n(2) = 5 of 13; after 1 always 2 (4 times)
    assert grams.unigram([[0, 2]], 0.5)[0] == pytest.approx(5.5 / (13 + 0.5 * V))
    assert grams.bigram([[1, 2]], 0.5)[0] == pytest.approx(4.5 / (4 + 0.5 * V))
    # after (1, 2): 1 once, 3 twice; after 2: these three and 4
    expected = 0.6 * 2 / 3 + 0.3 * 2 / 4 + 0.1 * 3.5 / (13 + 0.5 * V)
    assert grams.trigram([[1, 2, 3]], (0.6, 0.3), 0.5)[-1] == pytest.approx(expected)


def test_longer_contexts_win_on_text_that_has_them() -> None:
    rng = np.random.default_rng(0)
    documents = [[0, *np.cumsum(rng.integers(1, 3, 40)) % 7 + 1] for _ in range(300)]  # next = last + 1 or 2 mod 7
    found = baselines(documents[:200], documents[200:250], documents[250:], 8)
    assert found["unigram"]["nll"].mean() == pytest.approx(np.log(7), abs=0.05)
    assert found["bigram"]["nll"].mean() == pytest.approx(np.log(2), abs=0.02)
    assert found["trigram"]["nll"].mean() < found["bigram"]["nll"].mean() + 0.05


def test_repeated_tokens_are_those_seen_before_in_their_document() -> None:
    losses = [np.array([1.0, 2.0, 4.0]), np.array([8.0, 16.0])]
    documents = [[0, 5, 6, 5], [0, 5, 6]]
    assert repeated(losses, documents, {5, 6}) == {"nats": 4.0, "n_tokens": 1}
