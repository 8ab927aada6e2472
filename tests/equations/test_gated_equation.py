"""Gated SAE against plain loops written from arXiv 2404.16014v2: eq. 6-8, App. E, and the pseudo-code of App. G.

W_gate[i, j] = W_enc[j, i] here; the decoder's column i is row i of W_dec.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from assay.kernels import implementation
from assay.training import step


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def paper(p: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pi_gate, the code f~ and the gate's own ReLU code, one number at a time."""
    n, F = len(x), len(p["b_gate"])
    pi, f, v = np.zeros((n, F)), np.zeros((n, F)), np.zeros((n, F))
    for b in range(n):
        for i in range(F):
            gate_dot = mag_dot = 0.0
            for j in range(x.shape[1]):
                W_gate_ij = p["W_enc"][j, i]
                W_mag_ij = math.exp(p["r_mag"][i]) * W_gate_ij  # eq. 7
                gate_dot += W_gate_ij * (x[b, j] - p["b_dec"][j])
                mag_dot += W_mag_ij * (x[b, j] - p["b_dec"][j])
            pi[b, i] = gate_dot + p["b_gate"][i]
            f_gate = 1.0 if pi[b, i] > 0 else 0.0
            f_mag = max(mag_dot + p["b_mag"][i], 0.0)
            f[b, i] = f_gate * f_mag  # eq. 6
            v[b, i] = max(pi[b, i], 0.0)
    return pi, f, v


def decoded(p: dict[str, np.ndarray], f: np.ndarray) -> np.ndarray:
    x_hat = np.zeros((len(f), len(p["b_dec"])))
    for b in range(len(f)):
        for j in range(len(p["b_dec"])):
            x_hat[b, j] = p["b_dec"][j] + sum(f[b, i] * p["W_dec"][i, j] for i in range(f.shape[1]))
    return x_hat


def squared_error(y: np.ndarray, x_hat: np.ndarray) -> float:
    """Summed over features, mean over tokens."""
    return sum(sum((y[b, j] - x_hat[b, j]) ** 2 for j in range(y.shape[1])) for b in range(len(y))) / len(y)


def test_codes_and_output(made, rows) -> None:
    gated, x = made("gated", l1_coef=0.7), rows(20, 0)
    pi, f, v = paper(arrays(gated), x.numpy())
    assert ((pi > 0) & (f == 0)).any(), "a gate open over a magnitude of 0 must occur here"
    assert ((pi <= 0) & (v == 0)).any()
    np.testing.assert_allclose(gated.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gated(x).detach().numpy(), decoded(arrays(gated), f), rtol=1e-11, atol=1e-12)


def test_the_three_terms_of_the_loss(made, rows) -> None:
    gated, x, y = made("gated", l1_coef=0.7), rows(20, 0), rows(20, 1)
    p = arrays(gated)
    _, f, v = paper(p, x.numpy())
    terms = gated.loss(x, y)
    assert set(terms) == {"recon", "aux", "l1"}
    assert float(terms["recon"]) == pytest.approx(squared_error(y.numpy(), decoded(p, f)), rel=1e-12)
    assert float(terms["aux"]) == pytest.approx(squared_error(y.numpy(), decoded(p, v)), rel=1e-12)
    assert float(terms["l1"]) == pytest.approx(sum(v.flatten()) / 20, rel=1e-12)
    assert gated.weights(1.0) == {"recon": 1.0, "aux": 1.0, "l1": 0.7}
    assert gated.weights(0.25)["l1"] == pytest.approx(0.7 / 4)


def gradients(gated, x, y, term: str) -> dict[str, torch.Tensor]:
    names = dict(gated.named_parameters())
    found = torch.autograd.grad(gated.loss(x, y)[term], list(names.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(names.items(), found, strict=True)}


def test_which_parameters_get_no_gradient(made, rows) -> None:
    """The Heaviside stops recon from b_gate; aux and l1 never see magnitudes nor the decoder (section 3.2.2)."""
    gated, x, y = made("gated", l1_coef=0.7), rows(20, 0), rows(20, 1)
    silent = {"recon": {"b_gate"}, "aux": {"r_mag", "b_mag", "W_dec"}, "l1": {"r_mag", "b_mag", "W_dec"}}
    for term, names in silent.items():
        for name, grad in gradients(gated, x, y, term).items():
            assert bool(grad.any()) == (name not in names), (term, name)


def test_the_engine_gives_no_gradient_there_either(made, rows) -> None:
    gated, x, y = made("gated", l1_coef=0.7), rows(20, 0), rows(20, 1)
    for kernel in ("reference", "torch"):
        only = {"recon": 0.0, "aux": 1.0, "l1": 1.0}
        grads = step.sparse(gated, x, y, only, 1.0, implementation(kernel)).grads
        assert not grads["r_mag"].any()
        assert not grads["b_mag"].any()
        assert not grads["W_dec"].any()
        assert grads["b_dec"].any()
        grads = step.sparse(gated, x, y, {"recon": 1.0, "aux": 0.0, "l1": 0.0}, 1.0, implementation(kernel)).grads
        assert not grads["b_gate"].any()
        assert grads["W_enc"].any(), "with tied encoders the gate's weights do learn from recon, through W_mag"


def test_aux_reaches_b_dec_through_the_encoder_only(made, rows) -> None:
    """x - b_dec is not stopped in the pseudo-code of App. G, the decoder's b_dec is: -W_enc sum_b c, nothing else."""
    gated, x, y = made("gated", l1_coef=0.7), rows(20, 0), rows(20, 1)
    p = arrays(gated)
    pi, _, v = paper(p, x.numpy())
    error = decoded(p, v) - y.numpy()
    c = (pi > 0) * (2 * error / 20 @ p["W_dec"].T)
    by_hand = -p["W_enc"] @ c.sum(0)
    np.testing.assert_allclose(gradients(gated, x, y, "aux")["b_dec"].numpy(), by_hand, rtol=1e-10)
    wrong = by_hand + (2 * error / 20).sum(0)  # what a decoder that is not frozen would add
    assert abs(wrong - by_hand).max() > 0.1


def test_gradients_by_hand(made, rows) -> None:
    """The formulas of DESIGN, section 3, one pair at a time."""
    gated, x, y = made("gated", l1_coef=0.7), rows(20, 0), rows(20, 1)
    p, B, coef = arrays(gated), 20, 0.7
    pi, f, v = paper(p, x.numpy())
    g_recon = 2 * (decoded(p, f) - y.numpy()) / B
    g_aux = 2 * (decoded(p, v) - y.numpy()) / B
    expected = {n: np.zeros_like(a) for n, a in p.items()}
    expected["b_dec"] += g_recon.sum(0)
    for b in range(B):
        centred = x.numpy()[b] - p["b_dec"]
        for i in range(len(p["b_gate"])):
            expected["W_dec"][i] += f[b, i] * g_recon[b]
            if pi[b, i] <= 0:
                continue
            u, e_r = pi[b, i] - p["b_gate"][i], math.exp(p["r_mag"][i])
            alpha = float(g_recon[b] @ p["W_dec"][i]) if e_r * u + p["b_mag"][i] > 0 else 0.0
            beta = float(g_aux[b] @ p["W_dec"][i]) + coef / B
            c = alpha * e_r + beta
            expected["b_gate"][i] += beta
            expected["b_mag"][i] += alpha
            expected["r_mag"][i] += alpha * e_r * u
            expected["W_enc"][:, i] += centred * c
            expected["b_dec"] -= p["W_enc"][:, i] * c
    for kernel in ("reference", "torch"):
        found = step.sparse(gated, x, y, gated.weights(1.0), 1.0, implementation(kernel)).grads
        assert set(found) == set(expected)
        for name, grad in found.items():
            np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_it_is_a_jumprelu_with_a_clamped_threshold(made, rows) -> None:
    """App. E: f~ = z 1[z > theta], z = W_mag (x - b_dec) + b_mag, theta = max(b_mag - e^r b_gate, 0)."""
    gated, x = made("gated", l1_coef=0.7), rows(200, 0)
    p = arrays(gated)
    e_r = np.exp(p["r_mag"])
    raw = p["b_mag"] - e_r * p["b_gate"]
    assert raw.min() < 0 < raw.max(), "both signs must occur, or the clamp is not tested"
    z = (x.numpy() - p["b_dec"]) @ (p["W_enc"] * e_r) + p["b_mag"]
    f = z * (z > np.maximum(raw, 0.0))
    np.testing.assert_allclose(gated.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    unclamped = z * (z > raw)
    assert abs(unclamped - f).max() > 0.1
