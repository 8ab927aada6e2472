"""Splitting, batching, stored activations, and the streaming search for top activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_dictionaries import SITE, Constant, Identity

from assay.activations import Document, TensorSource, harvest, split_of, unpacked
from assay.core.errors import BadInput
from assay.evaluation import Entry, evaluate
from assay.evaluation.readings import Reading, packets, splitting
from assay.evaluation.tops import Tops, spread_sample
from assay.kernels import Codes
from assay.models import Model


@pytest.mark.parametrize("padded", [False, True])
def test_packets_fit_the_budget_and_lose_nothing(padded: bool) -> None:
    lengths = np.array([5, 3, 9, 1, 1, 20, 4, 4])
    order = np.array([7, 2, 0, 5, 1, 3, 4, 6])
    found = list(packets(lengths, order, 12, padded))
    assert np.concatenate(found).tolist() == order.tolist()
    for packet in found:
        size = len(packet) * lengths[packet].max() if padded else lengths[packet].sum()
        assert size <= 12 or len(packet) == 1


def test_the_hash_rule_leaves_training_documents_out() -> None:
    rule = splitting("hash")
    for i in range(200):
        document = f"{i * 7919:016x}"
        assert {None: "train", 0: "validation", 1: "test"}[rule.of(document)] == split_of(document)


def test_stored_activations_give_what_the_model_gives(model: Model, documents: list[Document], tmp_path: Any) -> None:
    store = harvest(model, [SITE], unpacked(documents, model, quiet=True), tmp_path / "store", quiet=True)
    entries = [Entry("half", "control", Identity(k=5)), Entry("zero", "floor", Constant(torch.zeros(16)))]
    stored = evaluate(entries, store=store, batch_tokens=50, resamples=50, quiet=True, site=SITE)
    live = evaluate(entries, model=model, documents=documents, site=SITE, resamples=50, language=False, quiet=True)
    values = lambda result: {(o.arm, o.metric, o.split): o.value for o in result.outcomes if "loss" not in o.metric}
    expected = values(live)
    for key, found in values(stored).items():
        assert found == (None if expected[key] is None else pytest.approx(expected[key], rel=1e-4, abs=1e-6)), key
    nulls = [o for o in stored.outcomes if o.metric == "loss_recovered_zero"]
    assert nulls
    assert all("model that they came from" in (o.why_null or "") for o in nulls)
    assert stored.run["model"] == "tiny"
    assert stored.examples.num_rows == live.examples.num_rows


def test_plain_tensors_can_be_evaluated() -> None:
    rng = torch.Generator().manual_seed(0)
    names = [f"{i * 7919 * 100003:016x}" for i in range(40) for _ in range(5)]
    source = TensorSource(torch.randn(200, 16, generator=rng), documents=names)
    found = evaluate([Entry("a", "control", Identity())], store=source, site="x", resamples=50, quiet=True)
    assert all(o.value == 0 for o in found.outcomes if o.metric == "fvu")
    constant = TensorSource(torch.ones(200, 16), documents=names)
    with pytest.raises(BadInput, match="same for every token"):
        evaluate([Entry("a", "control", Identity())], store=constant, site="x", quiet=True)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.sampled_from([-3.0, -1.0, 0.5, 2.0, 4.0]))),
    cuts=st.sets(st.integers(1, 5), max_size=3),
    n=st.integers(1, 4),
)
def test_tops_equal_sorting_everything(values: list[tuple[int, int, float]], cuts: set[int], n: int) -> None:
    """31 tokens in 7 documents of at most 5 tokens; batches are cut between documents."""
    dense = torch.zeros(31, 4)
    for latent, token, value in values:
        dense[token, latent] = value
    document, position = torch.arange(31) // 5, torch.arange(31) % 5
    tops = Tops(4, n)
    for docs in torch.arange(7).tensor_split(sorted(cuts)):
        rows = torch.isin(document, docs)
        part = Reading(document[rows], position[rows], position[rows], torch.zeros(int(rows.sum()), 1))
        tops.add(Codes.of(dense[rows]), part)
    for latent in range(4):
        peaks: dict[int, tuple[float, int]] = {}
        for token in range(31):
            height = abs(float(dense[token, latent]))
            if height > peaks.get(token // 5, (0.0, 0))[0]:
                peaks[token // 5] = (height, token % 5)
        best = sorted(peaks.items(), key=lambda item: (-item[1][0], item[0]))[:n]
        kept = tops.document[latent] >= 0
        assert tops.document[latent][kept].tolist() == [d for d, _ in best]
        assert tops.position[latent][kept].tolist() == [p for _, (_, p) in best]
        assert tops.height[latent][kept].tolist() == [h for _, (h, _) in best]


def test_the_sample_of_latents_is_spread_over_frequency() -> None:
    frequency = torch.tensor([0.0, 0.5, 0.1, 0.0, 0.3, 0.2, 0.4])
    assert spread_sample(frequency, 3).tolist() == [1, 4, 2]
    assert spread_sample(frequency, 99).tolist() == [1, 6, 4, 5, 2]
    assert spread_sample(torch.zeros(3), 2).tolist() == []
