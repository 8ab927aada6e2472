"""Signed codes: turning a latent round (its code, its encoder and its direction change sign) changes no metric, top or histogram."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_dictionaries import SITE, D

from assay.activations import Document
from assay.core.randomness import torch_rng
from assay.dictionaries import Dictionary, build, config_class
from assay.evaluation import Entry, Evaluation, Trial, evaluate, evaluate_recovery
from assay.models import Model
from assay.worlds.planted import Config, World

D_SAE, K = 24, 5


def abstopk(turned: bool, d: int = D, d_sae: int = D_SAE) -> tuple[Dictionary, torch.Tensor]:
    """A random dictionary whose codes have both signs, and [d_sae] bool: which latents are turned round."""
    rng = torch_rng(0, "vectors")
    sample = torch.randn(50, d, generator=rng)
    made = build(config_class("abstopk")(d_in=d, d_sae=d_sae, k=K), torch_rng(0, "init"), sample)
    which = torch.rand(d_sae, generator=rng) < 0.5
    with torch.no_grad():
        made.b_enc.copy_(0.1 * torch.randn(d_sae, generator=rng))
        if turned:
            made.W_enc[:, which] *= -1
            made.W_dec[which] *= -1
            made.b_enc[which] *= -1
    return made, which


@pytest.fixture(scope="module")
def results(model: Model, documents: list[Document]) -> tuple[Evaluation, Evaluation]:
    found = []
    for turned in (False, True):
        entry = Entry("abstopk", "control", abstopk(turned)[0], subject="one")
        found.append(evaluate([entry], model=model, site=SITE, documents=documents, resamples=100, quiet=True))
    return found[0], found[1]


def test_no_metric_changes(results) -> None:
    values = [{(o.metric, o.split): o.value for o in result.outcomes} for result in results]
    assert {m for m, _ in values[0]} >= {
        "fvu", "gamma", "l0", "l0_train", "cosine", "norm_ratio", "loss_recovered_zero", "delta_loss", "dead", "dense_10",
    }  # fmt: skip
    for key, value in values[0].items():
        assert values[1][key] == pytest.approx(value, rel=1e-5, abs=1e-7), key
    assert values[0]["l0", "test"] == values[0]["l0_train", "test"] == K, "a negative code counts"


def test_frequencies_and_tops_rank_by_size(results) -> None:
    which = abstopk(True)[1].numpy()
    one, two = (r.histogram.to_pandas() for r in results)
    assert one.frequency.sum() == pytest.approx(K)
    assert one.equals(two)
    one, two = (r.examples.to_pandas() for r in results)
    columns = ["latent", "rank", "document", "position", "peak", "frequency"]
    assert len(one) > 50
    assert one[columns].equals(two[columns])
    signs: set[float] = set()
    for (_, a), (_, b) in zip(one.iterrows(), two.iterrows(), strict=True):
        sign = -1.0 if which[a.latent] else 1.0
        np.testing.assert_allclose(b["values"], sign * np.asarray(a["values"]), rtol=1e-5, atol=1e-6)
        signs.add(float(np.sign(a["values"][a.peak])))
    assert signs == {-1.0, 1.0}, "tops of either sign"
    for _, group in one.groupby("latent"):
        heights = [abs(v[p]) for v, p in zip(group["values"], group["peak"], strict=True)]
        assert heights == sorted(heights, reverse=True)


def test_recovery_does_not_see_the_sign() -> None:
    world = World(Config(d=D, n_true=D_SAE, l0=3.0), seed=0)
    found = []
    for turned in (False, True):
        made, which = abstopk(turned)
        with torch.no_grad():  # the planted directions themselves, some of them turned round
            directions = torch.where((which & turned)[:, None], -1.0, 1.0) * world.directions
            made.W_dec.copy_(directions)
            made.W_enc.copy_(directions.T)
        result = evaluate_recovery([Trial(Entry("abstopk", "control", made), world)], n_tokens=2000, quiet=True)
        found.append({(o.metric, o.split): o.value for o in result.outcomes})
    assert found[0]["mcc", "test"] == pytest.approx(1.0, abs=1e-5)
    assert 0.3 < found[0]["f1", "test"] < 1.0
    for key, value in found[0].items():
        assert found[1][key] == pytest.approx(value, rel=1e-5), key
