"""JumpReLU against plain loops written from arXiv 2407.14435 eq. 4-12 (as quoted and restated in 2408.05147), the published forms of
its penalty, and the recipe of January 2025."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from assay.core.errors import BadOption
from assay.dictionaries import DENSE, SPARSE, config_class
from assay.kernels import IMPLEMENTATIONS, implementation
from assay.training import step

EPS = 0.7
VARIANTS = {
    "l0": {},
    "log": {"theta": "log"},
    "pre bias": {"pre_bias": True},
    "to input": {"to_input": True},
    "target": {"penalty": "target", "l0_target": 2.5},
    "target, printed constant": {"penalty": "target", "l0_target": 9.0, "target_slope": 2.0},
    "frequency": {"penalty": "frequency", "omega0": 0.2},
    "tanh": {"penalty": "tanh", "tanh_scale": 1.3, "pre_coef": 0.05},
    "tanh alone": {"penalty": "tanh", "tanh_scale": 1.3, "pre_coef": 0.0, "to_input": False},
}
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def paper(
    o, p: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray], np.ndarray]:
    """The terms of the loss, the gradient of their weighted sum, and the codes: one pair (token, latent) at a time."""
    n, F, d = len(x), len(p["b_enc"]), y.shape[1]
    theta = [max(t, 0.0) for t in p["theta"]] if o.theta == "direct" else [math.exp(t) for t in p["log_theta"]]
    z, f, on, K = (np.zeros((n, F)) for _ in range(4))
    for b in range(n):
        for i in range(F):
            read = x[b] - p["b_dec"] if o.pre_bias else x[b]
            z[b, i] = sum(read[j] * p["W_enc"][j, i] for j in range(len(read))) + p["b_enc"][i]
            on[b, i] = 1.0 if z[b, i] > theta[i] else 0.0
            f[b, i] = z[b, i] * on[b, i]
            K[b, i] = 1.0 if abs((z[b, i] - theta[i]) / o.eps) < 0.5 else 0.0
    x_hat = np.array(
        [[p["b_dec"][j] + sum(f[b, i] * p["W_dec"][i, j] for i in range(F)) for j in range(d)] for b in range(n)]
    )
    omega = [sum(on[b, i] for b in range(n)) / n for i in range(F)]
    norm = [math.sqrt(sum(w * w for w in p["W_dec"][i])) for i in range(F)]
    terms = {"recon": ((x_hat - y) ** 2).sum() / n}
    slope = [0.0] * F  # of the penalty in omega_i
    if o.penalty == "l0":
        terms["l0"], slope = sum(omega), [1.0] * F
    elif o.penalty == "target":
        off = sum(omega) - o.l0_target
        terms["target"], slope = o.target_slope / o.l0_target * off**2, [2 * o.target_slope / o.l0_target * off] * F
    elif o.penalty == "frequency":
        terms["frequency"], slope = sum(w * (1 + w / o.omega0) for w in omega), [1 + 2 * w / o.omega0 for w in omega]
    else:
        terms["tanh"] = sum(math.tanh(o.tanh_scale * f[b, i] * norm[i]) for b in range(n) for i in range(F)) / n
        if o.pre_coef:
            terms["pre"] = sum(max(theta[i] - z[b, i], 0.0) * norm[i] for b in range(n) for i in range(F)) / n

    to_input = o.penalty == "tanh" if o.to_input is None else o.to_input
    g = 2 * (x_hat - y) / n
    grads = {name: np.zeros_like(array) for name, array in p.items()}
    grads["b_dec"] += g.sum(0)
    for b in range(n):
        for i in range(F):
            to_f = float(g[b] @ p["W_dec"][i])
            to_norm = to_theta = to_z = 0.0
            if o.penalty == "tanh":
                flat = 1 - math.tanh(o.tanh_scale * f[b, i] * norm[i]) ** 2
                to_f += o.l0_coef / n * o.tanh_scale * norm[i] * flat
                to_norm += o.l0_coef / n * o.tanh_scale * f[b, i] * flat
                if theta[i] > z[b, i]:
                    to_theta += o.pre_coef / n * norm[i]
                    to_z -= o.pre_coef / n * norm[i]
                    to_norm += o.pre_coef / n * (theta[i] - z[b, i])
            at_jump = K[b, i] / o.eps * (to_f * theta[i] + o.l0_coef * slope[i] / n)  # eq. 11-12
            to_theta -= at_jump
            to_z += to_f * on[b, i] + (at_jump if to_input else 0.0)
            if o.theta == "log":
                grads["log_theta"][i] += to_theta * theta[i]
            elif p["theta"][i] > 0:
                grads["theta"][i] += to_theta
            grads["b_enc"][i] += to_z
            grads["W_enc"][:, i] += to_z * (x[b] - p["b_dec"] if o.pre_bias else x[b])
            grads["W_dec"][i] += f[b, i] * g[b] + to_norm * p["W_dec"][i] / norm[i]
            if o.pre_bias:
                grads["b_dec"] -= to_z * p["W_enc"][:, i]
    return terms, grads, f


def example(made, rows, options):
    jumprelu = made("jumprelu", **{"l0_coef": 0.6, "bandwidth": EPS, **options})
    x, y = rows(20, 0), rows(20, 1)
    return jumprelu, x, y, *paper(jumprelu.config, arrays(jumprelu), x.numpy(), y.numpy())


@every
def test_codes_and_terms(made, rows, options) -> None:
    jumprelu, x, y, terms, _, f = example(made, rows, options)
    np.testing.assert_allclose(jumprelu.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(jumprelu.encode_sparse(x).dense().numpy(), f, rtol=1e-11, atol=1e-12)
    assert 0 < (f != 0).sum() < f.size
    found = jumprelu.loss(x, y)
    assert {t: float(v.detach()) for t, v in found.items()} == pytest.approx(terms, rel=1e-11)
    assert set(jumprelu.weights(1.0)) == set(terms)


@every
def test_gradients_by_hand(made, rows, options) -> None:
    """Pairs on both sides of the threshold in the window, and thresholds that relu holds at 0."""
    jumprelu, x, y, _, expected, f = example(made, rows, options)
    p = jumprelu.params_at()
    away = jumprelu.pre_activations(x) + p.b_enc - jumprelu.thresholds(p)
    near = away.abs() < jumprelu.config.eps / 2
    assert bool((near & (away > 0)).any()) and bool((near & (away < 0)).any()) and bool((~near & (away > 0)).any())
    if jumprelu.config.theta == "direct":
        assert bool((jumprelu.theta < 0).any()) and bool((jumprelu.theta > 0).any())
    weights = jumprelu.weights(1.0)
    done = [step.dense(jumprelu, x, y, weights, 1.0)]
    if jumprelu.step == SPARSE:
        done += [step.sparse(jumprelu, x, y, weights, 1.0, implementation(kernel)) for kernel in IMPLEMENTATIONS]
        assert done[0].n_support == done[1].n_support < f.size
    for one in done:
        assert set(one.grads) == set(expected)
        for name, grad in one.grads.items():
            np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_which_parameters_the_penalty_trains(made, rows) -> None:
    """Through the step the L0 term trains theta alone; with to_input also what makes z; tanh also the decoder's norms."""
    x, y = rows(20, 0), rows(20, 1)
    encoder = {"W_enc", "b_enc"}
    for options, trained in (
        ({}, {"theta"}),
        ({"penalty": "target", "l0_target": 2.0}, {"theta"}),
        ({"penalty": "frequency"}, {"theta"}),
        ({"pre_bias": True}, {"theta"}),
        ({"to_input": True}, {"theta"} | encoder),
        ({"to_input": True, "pre_bias": True}, {"theta", "b_dec"} | encoder),
        ({"penalty": "tanh"}, {"theta", "W_dec"} | encoder),
    ):
        jumprelu = made("jumprelu", **{"l0_coef": 0.6, "bandwidth": EPS, **options})
        term = jumprelu.config.penalty
        names = dict(jumprelu.named_parameters())
        found = torch.autograd.grad(jumprelu.loss(x, y)[term], list(names.values()), allow_unused=True)
        assert {n for n, g in zip(names, found, strict=True) if g is not None and bool(g.any())} == trained, options


def test_the_quadratic_penalty_has_the_slope_of_the_linear_one_at_twice_its_target() -> None:
    """Slope l0_coef at L0 = 2 target, none at the target; the printed constant 2 gives four times as much."""
    from assay.dictionaries.jumprelu import squared_distance

    for slope, expected in ((0.5, 1.0), (2.0, 4.0)):
        for l0, factor in ((14.0, 1.0), (7.0, 0.0), (0.0, -1.0)):
            omega = torch.full((10,), l0 / 10, dtype=torch.float64, requires_grad=True)
            (grad,) = torch.autograd.grad(squared_distance(omega, 7.0, slope), omega)
            torch.testing.assert_close(grad, torch.full_like(grad, factor * expected))


def test_a_pair_in_the_window_below_its_threshold_trains_it(made) -> None:
    """The step acts on pre-activations, not on codes: a pair just below its threshold has code 0 and still counts."""
    jumprelu = made("jumprelu", l0_coef=1.0, bandwidth=0.4, d_in=1, d_sae=1)
    with torch.no_grad():
        for name, value in {"W_enc": 1.0, "b_enc": 0.0, "theta": 1.0, "W_dec": 1.0, "b_dec": 0.0}.items():
            jumprelu.get_parameter(name).fill_(value)
    for at, expected in ((0.79, 0.0), (0.81, -1 / 0.4), (0.99, -1 / 0.4), (1.19, -1 / 0.4), (1.21, 0.0)):
        x = torch.tensor([[at]], dtype=torch.float64)
        done = step.sparse(jumprelu, x, x, {"recon": 0.0, "l0": 1.0}, 1.0, implementation("torch"))
        assert float(done.grads["theta"]) == pytest.approx(expected), at
        assert len(done.f) == (at > 1)
        assert done.n_support == (at > 0.8)


def test_inference_decides_as_pairs_do_at_the_very_border(made) -> None:
    """z = theta exactly is off and the next number is on, though u > theta - b_enc may round either way."""
    jumprelu = made("jumprelu", l0_coef=1.0, d_in=1, d_sae=1).float()
    for b, theta in ((0.1, 0.3), (-1.7, 0.9), (123.4, 0.05), (-0.3333, 1e-4), (0.7, 0.7)):
        with torch.no_grad():
            for name, value in {"W_enc": 1.0, "b_enc": b, "theta": theta, "b_dec": 0.0}.items():
                jumprelu.get_parameter(name).fill_(value)
        u = torch.tensor(theta, dtype=torch.float32) - torch.tensor(b, dtype=torch.float32)
        for _ in range(8):
            u = torch.nextafter(u, torch.tensor(-torch.inf))
        for _ in range(16):
            u = torch.nextafter(u, torch.tensor(torch.inf))
            z = u + jumprelu.b_enc
            on = bool(z > jumprelu.theta)
            with torch.no_grad():
                assert (len(jumprelu.encode_sparse(u.reshape(1, 1))) == 1) == on
            assert bool((jumprelu.encode(u.reshape(1, 1)) != 0).any()) == on


def test_a_threshold_pushed_below_zero_comes_back(made) -> None:
    jumprelu = made("jumprelu", l0_coef=1.0, bandwidth=0.5)
    with torch.no_grad():
        jumprelu.theta.fill_(-0.3)
    jumprelu.constrain()
    assert 0 < float(jumprelu.theta.detach().max()) < 1e-5
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grads = step.dense(jumprelu, x, x, {"recon": 0.0, "l0": 1.0}, 1.0).grads
    assert bool((grads["theta"] < 0).all()), "the penalty raises every threshold again"


def test_recipes(made) -> None:
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    for options, name, start in (
        ({}, "theta", 0.1),
        ({"theta": "log"}, "log_theta", math.log(0.1)),
        ({"theta_init": 0.4}, "theta", 0.4),
    ):
        jumprelu = made("jumprelu", l0_coef=0.6, **options).float()
        jumprelu.init(torch.Generator().manual_seed(1), x, x + 2)
        torch.testing.assert_close(jumprelu.get_parameter(name).detach(), torch.full((11,), start))
        torch.testing.assert_close(jumprelu.W_dec.norm(dim=1), torch.ones(11))
        torch.testing.assert_close(jumprelu.W_enc.detach(), jumprelu.W_dec.detach().T)
        torch.testing.assert_close(jumprelu.b_dec.detach(), (x + 2).mean(0))
    forms = {k: made("jumprelu", l0_coef=0.6, **o) for k, o in VARIANTS.items()}
    assert {k for k, d in forms.items() if d.step == DENSE} == {"tanh"}
    assert {k for k, d in forms.items() if not d.unit_norm} == {"tanh", "tanh alone"}
    assert {k for k, d in forms.items() if d.pre_bias} == {"pre bias"}
    assert {k: d.config.eps for k, d in forms.items() if d.config.eps != 0.1} == {"tanh": 2.0, "tanh alone": 2.0}
    assert forms["l0"].beta1 == 0.0
    assert forms["l0"].dead_latents is None


def test_options_that_contradict_are_refused() -> None:
    config = config_class("jumprelu")
    for options, message in (
        ({"penalty": "target"}, r"--l0-target is None; it must be given with --penalty target"),
        ({"l0_target": 3.0}, r"--l0-target is 3.0; it must be given with --penalty target, and only then"),
        ({"bandwidth": 0.0}, r"--bandwidth is 0.0; it must be positive"),
        ({"pre_bias": True, "wiring": "transcoder"}, r"--pre-bias is True; it must be off"),
        ({"theta": "log", "wiring": "crosslayer", "in_sites": (3, 3)}, r"--theta is 'log'; it must be direct"),
    ):
        with pytest.raises(BadOption, match=message):
            config(d_in=6, d_sae=12, l0_coef=0.1, **options)
