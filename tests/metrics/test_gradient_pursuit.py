"""Gradient pursuit against a NumPy loop over its steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.metrics.pursuit import gradient_pursuit, pursue


def example(seed: int, n: int = 9, d: int = 6, n_latents: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    W = torch.randn(n_latents, d, generator=rng, dtype=torch.float64)
    return (
        2 * torch.randn(n, d, generator=rng, dtype=torch.float64),
        W / W.norm(dim=1, keepdim=True),
        torch.randn(d, generator=rng, dtype=torch.float64),
    )


def by_hand(x: np.ndarray, D: np.ndarray, b: np.ndarray, k: int, floor: float = 0.0) -> np.ndarray:
    """One row."""
    f, chosen = np.zeros(len(D)), set()
    for _ in range(k):
        r = x - b - f @ D
        chosen.add(max(range(len(D)), key=lambda i: D[i] @ r))
        g = np.array([D[i] @ r if i in chosen else 0.0 for i in range(len(D))])
        c = g @ D
        step = (c @ r) / (c @ c)
        f = np.array([max(value + step * slope, floor) for value, slope in zip(f, g, strict=True)])
    return f


@pytest.mark.parametrize("n_latents", [14, 4])  # with 4 of 6 dimensions some rows point away from every direction
def test_every_step_against_a_loop(n_latents: int) -> None:
    x, W, b = example(0, n=40, n_latents=n_latents)
    for k, f in enumerate(pursue(x, W, b, 5), start=1):
        expected = np.stack([by_hand(row, W.numpy(), b.numpy(), k) for row in x.numpy()])
        np.testing.assert_allclose(f.numpy(), expected, atol=1e-10)
    free = np.stack([by_hand(row, W.numpy(), b.numpy(), 5, floor=-np.inf) for row in x.numpy()])
    assert (free < -0.01).any() == (n_latents == 4), "the clamp must be seen at work"


def test_codes_are_sparse_non_negative_and_better_with_every_step() -> None:
    x, W, b = example(1, n=40)
    errors = []
    for k, f in enumerate(pursue(x, W, b, 6), start=1):
        assert int((f != 0).sum(1).max()) <= k and float(f.min()) >= 0
        errors.append(float((x - b - f @ W).square().sum()))
    assert errors == sorted(errors, reverse=True)


def test_orthogonal_directions_are_read_off() -> None:
    W = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
    b = torch.arange(6, dtype=torch.float64)
    f = torch.tensor([[0.0, 3.0, 0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 6], dtype=torch.float64)
    found = gradient_pursuit(f @ W + b, W, b, 40)
    torch.testing.assert_close(found, f, atol=1e-6, rtol=0)  # gradient steps approach the least squares
    assert torch.equal(gradient_pursuit(b[None], W, b, 3), torch.zeros(1, 6, dtype=torch.float64)), "nothing to explain"
