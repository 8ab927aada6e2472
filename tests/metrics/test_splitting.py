"""Splitting and absorption: worked cases, and the score statistic against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from assay.metrics.splitting import Latents, absorbed_rows, best_cut, f1_of, logistic, split_of


def rows(*on: dict[int, float], d_sae: int = 5) -> csr_matrix:
    f = np.zeros((len(on), d_sae))
    for i, codes in enumerate(on):
        for latent, value in codes.items():
            f[i, latent] = value
    return csr_matrix(f)


def split_feature(n_parts: int, n_each: int = 30) -> tuple[csr_matrix, np.ndarray]:
    """A feature on 60 rows, each of `n_parts` latents firing on its own part of them; latent 4 fires everywhere, 3 on other rows."""
    on = [{4: 1.0, i * n_parts // (2 * n_each): 2.0} for i in range(2 * n_each)]
    off = [{4: 1.0, 3: 1.5} if i % 2 else {4: 1.0} for i in range(4 * n_each)]
    return rows(*on, *off), np.arange(6 * n_each) < 2 * n_each


@pytest.mark.parametrize("n_parts", [1, 2, 3])
def test_a_feature_is_split_into_as_many_latents_as_share_its_tokens(n_parts) -> None:
    f, y = split_feature(n_parts)
    split = split_of(Latents(f), y, Latents(f), y, margin=0.03, most=10)
    assert sorted(split.latents) == list(range(n_parts))
    # k parts of n: k / n of the feature's rows are found and none besides
    by_hand = [2 * (k / n_parts) / (1 + k / n_parts) for k in range(1, n_parts + 1)]
    assert split.f1[:n_parts] == pytest.approx(by_hand)


def test_the_margin_and_the_limit_end_the_search() -> None:
    f, y = split_feature(3)  # F1 .5, .8, 1
    whole = Latents(f)
    assert len(split_of(whole, y, whole, y, margin=0.25, most=10).latents) == 2, "the third adds .2"
    assert len(split_of(whole, y, whole, y, margin=0.35, most=10).latents) == 1
    assert len(split_of(whole, y, whole, y, margin=0.03, most=2).latents) == 2


def test_f1_is_that_of_the_other_rows() -> None:
    f, y = split_feature(1)
    other = rows(*[{0: 1.5}] * 3, {}, *[{0: 1.5}] * 2, *[{}] * 4)  # three hits, one miss, two false
    split = split_of(Latents(f), y, Latents(other), np.arange(10) < 4, margin=0.03, most=1)
    assert split.f1 == pytest.approx([2 * 3 / (5 + 4)])


def test_a_latent_that_speaks_against_a_feature_counts_only_where_codes_are_signed() -> None:
    f = rows(*[{0: -2.0}] * 20, *[{1: 1.0}] * 40)
    y = np.arange(60) < 20
    assert split_of(Latents(f), y, Latents(f), y, margin=0.03, most=1).latents == []
    assert split_of(Latents(f), y, Latents(f), y, margin=0.03, most=1, signed=True).latents in ([0], [1])


def test_the_score_statistic_is_its_plain_loop() -> None:
    rng = np.random.default_rng(0)
    f = np.where(rng.random((40, 5)) < 0.4, rng.normal(1.0, 0.5, (40, 5)), 0.0)
    y, p = rng.random(40) < 0.3, rng.uniform(0.1, 0.9, 40)
    expected = []
    for i in range(5):
        gain = total = first = second = 0.0
        for b in range(40):
            c = 0.5 / y.mean() if y[b] else 0.5 / (1 - y.mean())
            v = c * p[b] * (1 - p[b])
            gain += c * (y[b] - p[b]) * f[b, i]
            total, first, second = total + v, first + v * f[b, i], second + v * f[b, i] ** 2
        one_row = (f[:, i] ** 2).sum() / (f[:, i] != 0).sum()
        expected.append(gain / math.sqrt(second - first**2 / total + one_row))
    np.testing.assert_allclose(Latents(csr_matrix(f)).scores(y, p), expected, rtol=1e-9)


def test_the_best_cut_keeps_equal_scores_together() -> None:
    score = np.array([3.0, 2.0, 2.0, 2.0, 1.0])
    y = np.array([True, True, False, False, False])
    assert best_cut(score, y) == 2.5  # F1 2/3; from 2 on it is 4/6, not higher
    assert best_cut(score, np.array([True, True, True, False, False])) == 1.5  # F1 6/7
    assert best_cut(score, np.ones(5, bool)) == 1.0, "always yes"
    assert f1_of(score >= 2.0, y) == pytest.approx(4 / 6)
    assert f1_of(np.zeros(5, bool), np.zeros(5, bool)) == 0.0


def test_a_probe_weighs_classes_alike_and_columns_by_their_size() -> None:
    """One column that is a on the rare class and 0 elsewhere: the fit must not depend on a, and its bias is that of equal classes."""
    y = np.arange(400) < 20
    probes = [logistic((a * y)[:, None].astype(float), y) for a in (0.01, 1.0, 50.0)]
    for a, probe in zip((0.01, 1.0, 50.0), probes, strict=True):
        assert probe.weight[0] * a == pytest.approx(probes[1].weight[0], rel=1e-3)
        assert probe.bias == pytest.approx(-probe.weight[0] * a / 2, rel=0.2), "halfway between the classes"
        assert probe.says((a * y)[:, None]).tolist() == y.tolist()


D = np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 3.0], [-1.0, 0.0], [0.1, 1.0]])  # cosines with (1, 0): 1, .6, 0, -1, .1
W = np.array([5.0, 0.0])


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ({1: 2.0, 2: 1.0}, (1, 2)),  # 1 carries 1.2, all of it; 2 writes 3, the longest of the others
        ({1: 2.0}, (1, -1)),  # alone
        ({0: 0.1, 1: 2.0}, None),  # the main latent fires
        ({0: -0.1, 1: 2.0}, None),  # firing is f != 0
        ({2: 1.0}, None),  # nothing along the probe
        ({4: 20.0}, None),  # most of it, but hardly aligned
        ({1: 1.0, 4: 6.0}, None),  # .6 against .6: not more than half
        ({1: 1.0, 4: 5.0}, (1, 4)),  # .6 against .5
        ({3: -2.0, 1: 1.0}, (3, 1)),  # a signed code: -2 times a direction against the probe
        ({3: 2.0, 1: 1.0}, (1, 3)),  # what counts against is not part of what is carried
        ({1: 1.0, 3: -0.6, 4: -1.0}, None),  # .6 and .6; what counts against does not make either more than half
        ({}, None),
    ],
)
def test_absorbed_rows_by_hand(codes, found) -> None:
    made = absorbed_rows(rows(codes, codes), np.array([False, True]), [0], D, W, aligned=0.5)
    assert made.row.tolist() == ([] if found is None else [1]), "only eligible rows"
    if found is not None:
        assert (int(made.latent[0]), int(made.control[0])) == found
