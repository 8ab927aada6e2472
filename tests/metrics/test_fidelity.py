"""FVU, cosine, norm ratio and γ: by hand, by brute force, and against what must not matter."""

from __future__ import annotations

import math

import pytest
import torch

from assay.metrics.fidelity import cosine, fvu, norm_ratio
from assay.metrics.shrinkage import relative_reconstruction_bias


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(50, 7, generator=rng) * torch.arange(1, 8) + 3
    return x, x + 0.4 * torch.randn(50, 7, generator=rng)


def test_fvu_of_a_two_by_two_example_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 8.0]])  # mean (2, 5): squares about it 1 + 9 + 1 + 9 = 20
    x_hat = torch.tensor([[1.0, 4.0], [2.0, 8.0]])  # residuals 0, -2, 1, 0: 5
    assert fvu(x, x_hat) == 5 / 20


def test_the_mean_predictor_has_fvu_exactly_1() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 8.0], [8.0, -4.0], [0.0, 6.0]])
    assert fvu(x, x.mean(0).expand_as(x)) == 1.0


def test_the_mean_is_per_dimension(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = pair
    assert fvu(x, x.mean().expand_as(x)) > 1.0


def test_scaling_both_changes_nothing_and_an_offset_is_punished(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, x_hat = pair
    for metric in (fvu, cosine, norm_ratio, relative_reconstruction_bias):
        assert metric(8 * x, 8 * x_hat) == pytest.approx(metric(x, x_hat), rel=1e-12)
    assert fvu(x, x + 1) == pytest.approx(7 * 50 / float((x.double() - x.double().mean(0)).square().sum()))
    assert fvu(x + 100, x_hat + 100) == pytest.approx(fvu(x, x_hat), rel=1e-4)  # float32 rounding of x + 100


def test_a_fixed_mean_is_used(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, x_hat = pair
    residual = float((x.double() - x_hat.double()).square().sum())
    assert fvu(x, x_hat, torch.zeros(7)) == pytest.approx(residual / float(x.double().square().sum()))


def test_perfect_reconstruction(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = pair
    assert fvu(x, x) == 0.0
    assert cosine(x, x) == pytest.approx(1)
    assert norm_ratio(x, x) == 1.0
    assert relative_reconstruction_bias(x, x) == pytest.approx(1)


def test_gamma_of_one_and_a_half() -> None:
    assert relative_reconstruction_bias(torch.ones(5, 3), torch.full((5, 3), 0.5)) == 0.5


@pytest.mark.parametrize("c", [0.25, 0.9, 1.0, 1.7])
def test_gamma_of_a_scaled_copy_is_the_scale(c: float) -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert relative_reconstruction_bias(x, c * x) == pytest.approx(c, rel=1e-12)


def test_gamma_is_where_the_rescaled_error_is_least(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, x_hat = pair[0].double(), 0.8 * pair[1].double()
    grid = torch.linspace(0.5, 1.5, 10_001, dtype=torch.float64)
    errors = torch.stack([(x_hat / g - x).square().sum() for g in grid])
    assert relative_reconstruction_bias(x, x_hat) == pytest.approx(float(grid[errors.argmin()]), abs=1e-4)


def test_gamma_pools_before_dividing() -> None:
    x = torch.tensor([[1.0], [3.0]])
    x_hat = torch.tensor([[0.5], [3.0]])
    assert relative_reconstruction_bias(x, x_hat) == pytest.approx((0.25 + 9) / (0.5 + 9))  # not (0.5 + 1) / 2


def test_an_unbiased_but_imperfect_reconstruction_has_a_norm_ratio_below_1_and_gamma_1() -> None:
    rng = torch.Generator().manual_seed(3)
    x_hat = torch.randn(200_000, 1, generator=rng)
    x = x_hat + torch.randn(200_000, 1, generator=rng)  # the best linear guess of x is x_hat itself
    assert relative_reconstruction_bias(x, x_hat) == pytest.approx(1, abs=0.02)
    assert norm_ratio(x, x_hat) < 0.75


def test_cosine_of_zero_vectors_counts_as_zero() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert cosine(x, torch.tensor([[3.0, 0.0], [0.0, 0.0]])) == 0.5


def test_nothing_to_divide_by_is_nan_not_an_error() -> None:
    constant = torch.ones(4, 2)
    assert math.isnan(fvu(constant, constant))
    assert math.isnan(relative_reconstruction_bias(constant, torch.zeros(4, 2)))
