"""The statistics, against SciPy, hand-worked examples and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from assay.core.gains import holm
from assay.core.resampling import (
    influence,
    interval,
    percentile_interval,
    percentile_p,
    resampled_ratios,
    resamples_needed,
    reseeded,
)


def seeds(n_seeds: int) -> np.ndarray:
    return reseeded(n_seeds, 2_000, np.random.default_rng(7))


def test_resampled_ratios_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    num, den = rng.random((7, 2)), 1 + rng.random((7, 2))
    fast = resampled_ratios(num, den, 50, np.random.default_rng(3))
    drawn = np.random.default_rng(3).integers(0, 7, size=(50, 7))
    slow = np.array([num[rows].sum(axis=0) / den[rows].sum(axis=0) for rows in drawn])
    np.testing.assert_allclose(fast, slow, rtol=1e-12)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    num, den = np.random.default_rng(0).random((2, 30, 3))
    whole = resampled_ratios(num, den, 100, np.random.default_rng(3))
    monkeypatch.setattr("assay.core.resampling.CHUNK", 30 * 7)
    np.testing.assert_allclose(resampled_ratios(num, den, 100, np.random.default_rng(3)), whole, rtol=1e-12)


def test_t_of_equal_denominators_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.3, 1, (2, 12))
    num = np.stack([a, b], axis=1)
    effect = influence(num, np.ones_like(num))
    found = interval(
        np.array([(a - b).mean()]), None, effect[:, :1] - effect[:, 1:], level=0.95, seed_weights=seeds
    )  # fmt: skip
    expected = stats.ttest_rel(a, b)
    bounds = expected.confidence_interval(0.95)
    assert found is not None
    np.testing.assert_allclose([found.lo, found.hi, found.p], [bounds.low, bounds.high, expected.pvalue], rtol=1e-9)
    assert found.how == "t"


def test_t_of_a_ratio_speaks_of_the_ratio_of_sums() -> None:
    """Two documents in three are short and bad: the mean of their own ratios is far from Σnum/Σden."""
    den = np.array([[1.0], [1.0], [10.0]] * 4)
    num = np.array([[0.9], [0.8], [1.0]] * 4)
    ratio = num.sum() / den.sum()
    found = interval(np.array([ratio]), None, influence(num, den), level=0.95, seed_weights=seeds)
    assert found is not None
    assert (found.lo + found.hi) / 2 == pytest.approx(ratio)
    assert found.hi < (num / den).mean()
    jackknife = np.array([(num.sum() - num[i, 0]) / (den.sum() - den[i, 0]) for i in range(12)])
    error = np.sqrt(11 / 12 * ((jackknife - jackknife.mean()) ** 2).sum())
    assert (found.hi - found.lo) / 2 == pytest.approx(stats.t.ppf(0.975, 11) * error, rel=0.1)


def test_holm_against_a_hand_worked_example() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made monotone
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_is_the_level_at_which_the_interval_touches_zero() -> None:
    draws = np.random.default_rng(0).normal(1.0, 0.5, 20_000)
    p = percentile_p(draws, 40)
    lo, _ = percentile_interval(draws, 40, 1 - p)
    assert lo == pytest.approx(0, abs=0.01)
    assert percentile_p(-draws, 40) == pytest.approx(p)
    assert percentile_p(np.zeros(100), 40) == 1.0
    assert percentile_p(draws + 100, 10_000) == pytest.approx(2 / 20_001, rel=0.01)  # never 0


def test_more_resamples_only_where_holm_needs_them() -> None:
    assert resamples_needed(300, 44, 0.05, 10_000) == 10_000
    more = resamples_needed(20, 44, 0.05, 10_000)
    assert 10_000 < more <= 100_000
    assert percentile_p(np.ones(more), 20) * 44 < 0.05 < percentile_p(np.ones(10_000), 20) * 44


def test_under_five_units_there_is_nothing() -> None:
    num = np.arange(8.0).reshape(4, 2)
    assert interval(num.mean(axis=0), None, influence(num, np.ones_like(num)), level=0.95, seed_weights=seeds) is None


@pytest.mark.parametrize(("n", "n_studies"), [(20, 2_000), (100, 500)])
def test_bootstrap_interval_of_a_ratio_covers_the_truth(n: int, n_studies: int) -> None:
    rng = np.random.default_rng(0)
    den = rng.lognormal(0, 0.5, (n, n_studies))
    num = den * (0.3 + 0.1 * rng.standard_normal((n, n_studies)))
    draws = resampled_ratios(num, den, 1_000, rng)
    bounds = np.array([percentile_interval(draws[:, i], n, 0.95) for i in range(n_studies)])
    covered = ((bounds[:, 0] < 0.3) & (bounds[:, 1] > 0.3)).mean()
    assert 0.93 <= covered <= 0.97  # the plain percentile interval covers .919 at n = 20


def two_level(rng: np.random.Generator, seed_sd: float, n: int, n_seeds: int) -> tuple[float, float, float]:
    """(lo, hi, p) of a difference that is truly 0: documents and seeds both vary it."""
    num = rng.standard_normal((n, 1)) + seed_sd * rng.standard_normal(n_seeds) + 0.3 * rng.standard_normal((n, n_seeds))
    den = np.ones_like(num)
    draws = resampled_ratios(num, den, 400, rng) if n >= 20 else None
    found = interval(
        num.mean(axis=0), draws, influence(num, den), level=0.95, seed_weights=lambda s: reseeded(s, 400, rng)
    )  # fmt: skip
    assert found is not None
    assert found.over_seeds == (n_seeds >= 3)
    return found.lo, found.hi, found.p


@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("seed_sd", [0.02, 0.3, 2.0])
def test_three_seeds_cover_the_truth_about_architectures(seed_sd: float, n: int) -> None:
    rng = np.random.default_rng(5)
    found = np.array([two_level(rng, seed_sd, n, 3) for _ in range(300)])
    covered = ((found[:, 0] < 0) & (found[:, 1] > 0)).mean()
    assert covered >= 0.92
    np.testing.assert_array_equal(found[:, 2] < 0.05, (found[:, 0] > 0) | (found[:, 1] < 0))


def test_variance_between_seeds_widens_the_interval() -> None:
    def width(seed_sd: float, n_seeds: int) -> float:
        rng = np.random.default_rng(2)
        return float(np.mean([hi - lo for lo, hi, _ in (two_level(rng, seed_sd, 40, n_seeds) for _ in range(20))]))

    assert width(1.0, 3) > 3 * width(0.01, 3)
    assert width(1.0, 2) == pytest.approx(
        width(0.01, 2), rel=1e-6
    )  # two seeds: these dictionaries, seeds not resampled
