"""Known features: which tokens they hold at, and interventions against a forward pass of our own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from assay import activations, models
from assay.activations.text import document_id
from assay.core import shipped
from assay.evaluation.readings import Live, splitting
from assay.metrics.splitting import Absorbed
from assay.studies import known_panels, known_probes
from assay.studies.known_features import features, of_text, word_ends


def test_features_of_the_text_alone() -> None:
    found = of_text([" the", "re", " Tom", " 7", ",", '"', " apple", "A"])
    assert found["begins with t"].tolist() == [True, False, True, False, False, False, False, False]
    assert found["begins with a"].tolist() == [False] * 6 + [True, False], "a word begins where a space does"
    assert found["capital"].tolist() == [False, False, True, False, False, False, False, True]
    assert found["digit"].tolist() == [False] * 3 + [True] + [False] * 4
    assert found["punctuation"].tolist() == [False] * 4 + [True, True, False, False]


def test_a_word_is_known_at_its_last_token_and_never_across_documents() -> None:
    pieces = [" a", " he", "dge", "hog", ",", ' "', "Fox", " cat", "fish", "fish"]
    document = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert word_ends(document, pieces) == ["a", "", "", "hedgehog", "", "", "fox", "", "catfish", "fish"]


def test_the_generators_answers() -> None:
    story = next(shipped.stories(limit=1))
    ids = [document_id(story["text"]), "0" * 16]
    pieces = {0: " " + story["object"], 1: " of", 2: " " + story["colour"]}
    document, tokens = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 1])
    found = features("story", document, tokens, ids, pieces.__getitem__)
    assert found["object"].tolist() == [True, False, False, False]
    assert found["colour"].tolist() == [False, False, True, False]
    assert found[f"tense: {story['tense']}"].tolist() == [True, True, False, False], "no shipped story: no variables"


@pytest.fixture(scope="module")
def probes() -> known_probes.Probes:
    torch.set_num_threads(1)
    model = models.load("storyworld", device="cpu", dtype="float32")
    documents = itertools.islice(
        activations.of_split(activations.documents("storyworld:900", text_column="text"), "validation", "test"), 60
    )
    readings = Live(model, "resid_post.1", documents, splitting("hash"), context=None, batch_tokens=1024)
    return known_probes.Probes(readings, "story", known_tokens=4000, ablated=5, margin=0.03, most=10, seed=3)


def test_rows_are_bounded_and_documents_whole(probes) -> None:
    assert 2000 < len(probes.x) <= 4000
    read = np.bincount(probes.document, minlength=len(probes.readings.lengths))
    assert set(read[read > 0] - probes.readings.lengths[read > 0]) == {0}
    assert probes.later == "resid_post.2"
    assert probes.labels


def test_a_fall_is_what_a_pass_of_the_changed_model_shows(probes) -> None:
    """Two tokens, two latents each, against a hook of our own on the block's output."""
    name = next(iter(probes.labels))
    rng = np.random.default_rng(0)
    D = rng.normal(size=(3, probes.x.shape[1]))
    tests = np.flatnonzero(probes.test)
    first = [int(np.flatnonzero(probes.document[tests] == d)[4]) for d in np.unique(probes.document[tests])[:2]]
    f = np.zeros((len(tests), 3))
    f[first[0], [0, 2]], f[first[1], 1] = [1.5, -0.7], 2.5
    taken = Absorbed(np.array(first), np.array([0, 1]), np.array([2, -1]))
    fallen = probes._intervene(csr_matrix(f), D, [(name, taken)])

    model, weight = probes.readings.model, probes.probes_later[name].weight
    expected = []
    for row, written in zip(first, ([1.5 * D[0], -0.7 * D[2]], [2.5 * D[1], 0 * D[1]]), strict=True):
        document, position = int(probes.document[tests[row]]), int(probes.position[tests[row]])
        reading = next(iter(probes.readings.sequences(np.array([document]))))
        at = int(torch.nonzero(reading.keep[0])[position])
        values = []
        for vector in (np.zeros_like(D[0]), *written):

            def hook(_module, _args, out, vector=vector, at=at):
                h = (out[0] if isinstance(out, tuple) else out).clone()
                h[0, at] -= torch.from_numpy(vector).float()
                return (h, *out[1:]) if isinstance(out, tuple) else h

            handle = model.hf.transformer.h[1].register_forward_hook(hook)
            with torch.no_grad():
                later = models.read(model, reading.ids, reading.mask, ["resid_post.2"])["resid_post.2"]
            handle.remove()
            values.append(float(later[0, at].double().numpy() @ weight))
        expected.append([values[0] - values[1], values[0] - values[2]])
    order = np.argsort(np.array(expected)[:, 1] == 0)  # the sample comes in an order of its own
    assert np.abs(np.array(expected)[0]).min() > 1e-3
    for row in np.array(expected)[order]:
        assert min(np.abs(fallen - row).max(1)) < 1e-3


def test_a_dictionary_that_gives_a_latent_to_every_feature_is_whole(probes) -> None:
    """One latent for each feature, by its probe: not split, not absorbed, and read as well as the baseline reads it."""

    class Ideal:
        def __init__(self) -> None:
            self.W = torch.tensor(np.stack([p.weight for p in probes.probes.values()]), dtype=torch.float32)
            self.b = torch.tensor([p.bias - p.cut for p in probes.probes.values()])

        def encode(self, x):
            return torch.relu(x @ self.W.t() + self.b.float() + 1e-6)

        def decode(self, f):
            return f.dense() @ self.W

    measured = probes.measure(Ideal())
    assert measured.absorbed == 0.0
    assert measured.split < 1.5
    assert measured.f1 == pytest.approx(probes.baseline()[0], abs=0.05)


def test_wide_against_narrow_needs_five_seeds_and_reads_intervals() -> None:
    up, down = [[0.1, 0.11, 0.12, 0.1, 0.09]], [[-0.1, -0.11, -0.12, -0.1, -0.09]]
    said = known_panels.wider_absorb_more
    assert said({"a": up, "b": up, "c": [[0.1, -0.1, 0.1, -0.1, 0.0]]}).word == "reproduced"
    assert said({"a": up, "b": down}).word == "not reproduced"
    assert said({"a": up, "b": up, "c": down}).word == "cannot be told here"
    assert said({"a": [row[:4] for row in up]}).word == "cannot be told here"
    assert "+0.1040 [+0.0898, +0.1182]" in said({"a": up}).sentence  # t(.975, 4) = 2.7764, s = .0114
    assert said({}).word == "cannot be told here"
