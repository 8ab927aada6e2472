"""γ latent by latent against a loop over its definition, and the first version's formula against the paper's own sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics import shrinkage
from assay.metrics.shrinkage import first_version, latent_bias_sums, relative_reconstruction_bias


def gammas(x: Tensor, f: Tensor, W_dec: Tensor, b_dec: Tensor) -> np.ndarray:
    row, latent = f.nonzero(as_tuple=True)
    num, den = latent_bias_sums(x, f @ W_dec + b_dec, row, latent, f[row, latent], W_dec)
    return (num / den).numpy()


def example(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [40, 5], signed codes f [40, 7] (about half of them 0), W_dec with rows of several lengths, b_dec not 0."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 5, generator=rng)
    f = torch.randn(40, 7, generator=rng) * (torch.rand(40, 7, generator=rng) < 0.5)
    return x, f, torch.randn(7, 5, generator=rng), torch.randn(5, generator=rng)


@pytest.mark.parametrize("pairs", [3, 1 << 16])
def test_against_a_loop(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrinkage, "PAIRS", pairs)
    x, f, W, b = example(0)
    expected = []
    for i in range(7):
        num = den = 0.0
        for t in range(40):
            if f[t, i] != 0:
                others = b + sum(f[t, j] * W[j] for j in range(7) if j != i)  # what the others write
                num += float(f[t, i] ** 2 * (W[i] @ W[i]))
                den += float(f[t, i] * (W[i] @ (x[t] - others)))
        expected.append(num / den)
    np.testing.assert_allclose(gammas(x, f, W, b), expected, rtol=1e-4)


def test_it_is_the_best_divisor_of_what_the_latent_writes() -> None:
    x, f, W, b = example(1)
    found = gammas(x, f, W, b)
    grid = np.linspace(-5, 5, 100_001)
    for i in range(7):
        fires = f[:, i] != 0
        own = (f[fires, i, None] * W[i]).double().numpy()
        left = (x - f @ W - b)[fires].double().numpy() + own
        inverse = grid  # 1/g: the loss is a parabola in it
        loss = (own**2).sum() * inverse**2 - 2 * (own * left).sum() * inverse
        assert 1 / found[i] == pytest.approx(grid[loss.argmin()], abs=1e-3)


@pytest.mark.parametrize("c", [0.5, 0.8, 1.0, 1.3])
def test_codes_scaled_by_c_on_orthogonal_directions_give_c(c: float) -> None:
    rng = torch.Generator().manual_seed(2)
    W = torch.linalg.qr(torch.randn(6, 6, generator=rng)).Q[:4] * torch.tensor([[1.0], [2.0], [0.5], [3.0]])
    f = torch.rand(50, 4, generator=rng) * (torch.rand(50, 4, generator=rng) < 0.4)
    b = torch.randn(6, generator=rng)
    np.testing.assert_allclose(gammas(f @ W + b, c * f, W, b), c, rtol=1e-5)


def test_the_first_version_from_its_own_sums() -> None:
    assert first_version(relative_reconstruction_bias(torch.ones(3, 1), torch.full((3, 1), 0.5))) == pytest.approx(
        3**-0.5
    )
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(60, 5, generator=rng, dtype=torch.float64)
    x_hat = 0.7 * x + 0.2 * torch.randn(60, 5, generator=rng, dtype=torch.float64)
    square = lambda v: float(v.square().sum())
    paper = math.sqrt(square(x_hat) / (square(x) - square(x - x_hat)))
    gamma = relative_reconstruction_bias(x, x_hat)
    assert first_version(gamma) == pytest.approx(paper)
    assert abs(paper - gamma) > 0.02
    assert math.isnan(first_version(2.0))
