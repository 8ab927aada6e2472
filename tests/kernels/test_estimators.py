"""Straight-through estimators against their formula, one number at a time, on both sides of windows that are not 1 wide."""

from __future__ import annotations

import pytest
import torch

from assay.kernels.estimators import jump, step


def by_hand(z: float, theta: float, eps: float, to_input: bool) -> dict[str, tuple[float, float, float]]:
    """Value, derivative to z, derivative to theta, by arXiv 2407.14435 eq. 11-12."""
    on = 1.0 if z > theta else 0.0
    K = 1.0 if abs((z - theta) / eps) < 0.5 else 0.0
    jump_theta, step_theta = -theta / eps * K, -1 / eps * K
    return {
        "jump": (z * on, on - (jump_theta if to_input else 0.0), jump_theta),
        "step": (on, -step_theta if to_input else 0.0, step_theta),
    }


@pytest.mark.parametrize("to_input", [False, True])
@pytest.mark.parametrize("eps", [0.001, 0.1, 0.37, 2.0])
@pytest.mark.parametrize("theta", [0.0, 0.5, 3.0])
def test_the_formula_on_both_sides_of_the_window(theta, eps, to_input) -> None:
    inside = [theta - 0.49 * eps, theta - 0.2 * eps, theta + 0.2 * eps, theta + 0.49 * eps]
    outside = [theta - 0.51 * eps, theta + 0.51 * eps, theta - 5, theta + 5]
    cotangents = torch.linspace(-2, 3, 8, dtype=torch.float64)
    z = torch.tensor(inside + outside, dtype=torch.float64, requires_grad=True)
    t = torch.full((8,), theta, dtype=torch.float64, requires_grad=True)
    for name, function in (("jump", jump), ("step", step)):
        value = function(z, t, eps, to_input=to_input)
        dz, dt = torch.autograd.grad(value, (z, t), cotangents)
        for i, at in enumerate(z.tolist()):
            expected = by_hand(at, theta, eps, to_input)[name]
            g = float(cotangents[i])
            found = (float(value[i].detach()), float(dz[i]), float(dt[i]))
            assert found == pytest.approx((expected[0], g * expected[1], g * expected[2]), rel=1e-12), (name, at)
        assert bool(dt[:4].any()) == (name == "step" or theta > 0)
        assert not dt[4:].any()


def test_the_worked_vector() -> None:
    z = torch.tensor([0.10, 0.52, 0.48, 1.0], requires_grad=True)
    theta = torch.full((4,), 0.5, requires_grad=True)
    f = jump(z, theta, 0.1)
    dz, dt = torch.autograd.grad(f.sum(), (z, theta))
    torch.testing.assert_close(f, torch.tensor([0.0, 0.52, 0.0, 1.0]))
    torch.testing.assert_close(dz, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(dt, torch.tensor([0.0, -5.0, -5.0, 0.0]))
    on = step(z, theta, 0.1)
    dz, dt = torch.autograd.grad(on.sum(), (z, theta))
    torch.testing.assert_close(on, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(dz, torch.zeros(4))
    torch.testing.assert_close(dt, torch.tensor([0.0, -10.0, -10.0, 0.0]))


@pytest.mark.parametrize("function", [jump, step])
@pytest.mark.parametrize("to_input", [False, True])
def test_a_threshold_for_each_column_sums_over_rows(function, to_input) -> None:
    """theta [5] against z [3, 4, 5] is theta repeated: the same numbers, summed over what it was repeated along."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    theta = torch.rand(5, generator=rng, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 4, 5, generator=rng, dtype=torch.float64)
    dz, dt = torch.autograd.grad(function(z, theta, 0.7, to_input=to_input), (z, theta), g)
    wide = theta.detach().expand(3, 4, 5).clone().requires_grad_()
    dz_wide, dt_wide = torch.autograd.grad(function(z, wide, 0.7, to_input=to_input), (z, wide), g)
    torch.testing.assert_close(dz, dz_wide)
    torch.testing.assert_close(dt, dt_wide.sum((0, 1)))
    assert dt.shape == (5,) and bool(dt.all())


def test_the_mean_estimates_the_derivative_of_the_expectation() -> None:
    """z uniform on [0, 2]: E step = 1 - theta / 2, E jump = 1 - theta^2 / 4, so the means must be -1/2 and -theta / 2."""
    z = torch.linspace(0, 2, 400_001, dtype=torch.float64)
    for theta, eps in ((0.6, 0.1), (1.3, 0.4)):
        t = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        (d_step,) = torch.autograd.grad(step(z, t, eps).mean(), t)
        (d_jump,) = torch.autograd.grad(jump(z, t, eps).mean(), t)
        assert float(d_step) == pytest.approx(-0.5, rel=1e-3)
        assert float(d_jump) == pytest.approx(-theta / 2, rel=1e-3)
