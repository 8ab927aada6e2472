"""AbsTopK against plain loops (arXiv 2510.00404): the k largest |z| of each row keep their signs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_batchtopk_equation import arrays, pre

from assay.kernels import implementation
from assay.training import step
from assay.training.auxk import add_auxk

DEAD = [1, 4, 5, 9]


def paper(z: np.ndarray, k: int) -> np.ndarray:
    f = np.zeros_like(z)
    for b in range(len(z)):
        for i in sorted(range(z.shape[1]), key=lambda i: (-abs(z[b, i]), i))[:k]:
            f[b, i] = z[b, i]
    return f


@pytest.mark.parametrize("k", [1, 4, 11])
def test_codes_output_and_loss(made, rows, k) -> None:
    abstopk, x, y = made("abstopk", k=k), rows(30, 0), rows(30, 1)
    p = arrays(abstopk)
    f = paper(pre(p, x.numpy()), k)
    assert ((f != 0).sum(1) == k).all(), "no value is cut at 0, so L0 is k"
    assert (f < 0).any()
    assert (f > 0).any()
    for training in (False, True):
        np.testing.assert_allclose(abstopk.encode(x, training=training).detach().numpy(), f, rtol=1e-11, atol=1e-12)
        codes = abstopk.encode_sparse(x, training=training)
        np.testing.assert_allclose(codes.dense().numpy(), f, rtol=1e-11, atol=1e-12)
    x_hat = f @ p["W_dec"] + p["b_dec"]
    np.testing.assert_allclose(abstopk(x).detach().numpy(), x_hat, rtol=1e-11, atol=1e-12)
    assert float(abstopk.loss(x, y)["recon"]) == pytest.approx(((y.numpy() - x_hat) ** 2).sum() / 30, rel=1e-12)


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_gradients_by_hand(made, rows, kernel) -> None:
    """c = alpha at every chosen pair, whatever its sign."""
    abstopk, x, y = made("abstopk", k=4), rows(30, 0), rows(30, 1)
    p, B = arrays(abstopk), 30
    f = paper(pre(p, x.numpy()), 4)
    g = 2 * (f @ p["W_dec"] + p["b_dec"] - y.numpy()) / B
    expected = {n: np.zeros_like(a) for n, a in p.items()}
    expected["b_dec"] = g.sum(0)
    for b in range(B):
        for i in np.flatnonzero(f[b]):
            c = float(g[b] @ p["W_dec"][i])
            expected["W_dec"][i] += f[b, i] * g[b]
            expected["b_enc"][i] += c
            expected["W_enc"][:, i] += c * (x.numpy()[b] - p["b_dec"])
            expected["b_dec"] -= c * p["W_enc"][:, i]
    found = step.sparse(abstopk, x, y, {"recon": 1.0}, 1.0, implementation(kernel)).grads
    for name, grad in found.items():
        np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_ties_of_opposite_sign_go_to_the_lower_latent(made) -> None:
    abstopk = made("abstopk", k=2, d_in=1, d_sae=4)
    with torch.no_grad():
        abstopk.b_dec.zero_()
        abstopk.b_enc.zero_()
        abstopk.W_enc.copy_(torch.tensor([[1.0, -2.0, 2.0, -2.0]]))
    assert abstopk.encode(torch.ones(1, 1, dtype=torch.float64))[0].tolist() == [0.0, -2.0, 2.0, 0.0]


@pytest.mark.parametrize("k_aux", [1, 3, 4])
def test_auxk_of_signed_codes(made, rows, k_aux) -> None:
    """The k_aux largest |z| of the dead latents, with their signs, predict the residual; both signs learn."""
    abstopk, x, y = made("abstopk", k=3, k_aux=k_aux), rows(30, 0), rows(30, 1)
    done = step.sparse(abstopk, x, y, {"recon": 1.0}, 1.0, implementation("torch"))
    residual = (y - done.x_hat).numpy()
    p = arrays(abstopk)
    z = pre(p, x.numpy())
    error = 0.0
    for b in range(30):
        kept = sorted(DEAD, key=lambda i: -abs(z[b, i]))[:k_aux]
        for j in range(6):
            error += (residual[b, j] - sum(z[b, i] * p["W_dec"][i, j] for i in kept)) ** 2 / 30
    expected = 2.5 * error / sum(residual[:, j].var() for j in range(6))
    before = done.grads["W_enc"].clone()
    term = add_auxk(abstopk, done.grads, x, torch.from_numpy(residual), torch.tensor(DEAD), 2.5)
    assert term == pytest.approx(expected, rel=1e-10)
    changed = (done.grads["W_enc"] != before).any(0)
    assert set(changed.nonzero().flatten().tolist()) == set(DEAD)


def test_a_dead_latent_that_is_always_negative_learns(made, rows) -> None:
    """With a relu it would get no gradient and stay dead."""
    abstopk, x = made("abstopk", k=3, k_aux=4), rows(30, 0)
    with torch.no_grad():
        abstopk.b_enc[4] = -50.0
    assert float((pre(arrays(abstopk), x.numpy())[:, 4]).max()) < 0
    done = step.sparse(abstopk, x, rows(30, 1), {"recon": 1.0}, 1.0, implementation("torch"))
    grads = {n: torch.zeros_like(g) for n, g in done.grads.items()}
    add_auxk(abstopk, grads, x, rows(30, 1) - done.x_hat, torch.tensor([4]), 2.5)
    assert float(grads["W_enc"][:, 4].abs().max()) > 0
    assert float(grads["b_enc"][4]) != 0
