"""ReLU SAE with L1 against plain loops: the unit form of arXiv 2404.16014 section 2.1, and the April-2024 form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.kernels import implementation
from assay.training import step


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def paper(p: dict[str, np.ndarray], x: np.ndarray, unit: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes and outputs, one number at a time; the unit form takes b_dec off the input, the free form does not."""
    n, F, d_out = len(x), len(p["b_enc"]), len(p["b_dec"])
    f, x_hat = np.zeros((n, F)), np.zeros((n, d_out))
    for b in range(n):
        for i in range(F):
            pre = p["b_enc"][i]
            for j in range(x.shape[1]):
                pre += p["W_enc"][j, i] * (x[b, j] - (p["b_dec"][j] if unit else 0.0))
            f[b, i] = max(pre, 0.0)
        for j in range(d_out):
            x_hat[b, j] = p["b_dec"][j] + sum(f[b, i] * p["W_dec"][i, j] for i in range(F))
    return f, x_hat


@pytest.mark.parametrize("form", ["unit", "free"])
def test_codes_output_and_terms(made, rows, form) -> None:
    relu, x, y = made("relu", l1_coef=0.7, decoder_norm=form), rows(20, 0), rows(20, 1)
    p = arrays(relu)
    f, x_hat = paper(p, x.numpy(), form == "unit")
    np.testing.assert_allclose(relu.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(relu(x).detach().numpy(), x_hat, rtol=1e-11, atol=1e-12)
    terms = relu.loss(x, y)
    assert set(terms) == {"recon", "l1"}
    assert float(terms["recon"]) == pytest.approx(((y.numpy() - x_hat) ** 2).sum() / 20, rel=1e-12)
    l1 = 0.0
    for b in range(20):
        for i in range(11):
            length = 1.0 if form == "unit" else sum(w**2 for w in p["W_dec"][i]) ** 0.5
            l1 += f[b, i] * length / 20
    assert float(terms["l1"]) == pytest.approx(l1, rel=1e-12)
    assert relu.weights(0.5) == {"recon": 1.0, "l1": 0.35}


def test_the_free_form_predicts_another_width(made, rows) -> None:
    relu, x, y = made("relu", l1_coef=0.7, decoder_norm="free", d_out=4), rows(20, 0), rows(20, 1, 4)
    _, x_hat = paper(arrays(relu), x.numpy(), unit=False)
    np.testing.assert_allclose(relu(x).detach().numpy(), x_hat, rtol=1e-11, atol=1e-12)
    assert float(relu.loss(x, y)["recon"]) == pytest.approx(((y.numpy() - x_hat) ** 2).sum() / 20, rel=1e-12)


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_gradients_of_the_free_form_by_hand(made, rows, kernel) -> None:
    """The table of DESIGN, section 3: c = (alpha + lambda |D_i| / B) 1[z>0],
    dD_i += lambda (sum_b f / B) D_i / |D_i|."""
    relu, x, y = made("relu", l1_coef=0.7, decoder_norm="free"), rows(20, 0), rows(20, 1)
    p, B, coef = arrays(relu), 20, 0.7
    f, x_hat = paper(p, x.numpy(), unit=False)
    g = 2 * (x_hat - y.numpy()) / B
    expected = {n: np.zeros_like(a) for n, a in p.items()}
    expected["b_dec"] = g.sum(0)
    for i in range(11):
        length = np.linalg.norm(p["W_dec"][i])
        for b in range(B):
            expected["W_dec"][i] += f[b, i] * g[b] + coef * f[b, i] / B * p["W_dec"][i] / length
            c = (float(g[b] @ p["W_dec"][i]) + coef * length / B) * (f[b, i] > 0)
            expected["b_enc"][i] += c
            expected["W_enc"][:, i] += c * x.numpy()[b]
    found = step.sparse(relu, x, y, relu.weights(1.0), 1.0, implementation(kernel)).grads
    for name, grad in found.items():
        np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_the_penalty_of_the_free_form_cannot_be_evaded(made, rows) -> None:
    """f / 10 with W_dec * 10 is the same function and pays the same."""
    relu, x = made("relu", l1_coef=0.7, decoder_norm="free"), rows(20, 0)
    before = {t: float(v) for t, v in relu.loss(x).items()}
    with torch.no_grad():
        relu.W_enc /= 10
        relu.b_enc /= 10
        relu.W_dec *= 10
    assert {t: float(v) for t, v in relu.loss(x).items()} == pytest.approx(before, rel=1e-12)


def test_the_unit_penalty_does_not_move_the_decoder(made, rows) -> None:
    unit, free = (made("relu", l1_coef=0.7, decoder_norm=form) for form in ("unit", "free"))
    for relu, reaches in ((unit, False), (free, True)):
        (grad,) = torch.autograd.grad(relu.loss(rows(9, 0))["l1"], relu.W_dec, allow_unused=True)
        assert (grad is not None and bool(grad.any())) == reaches
        assert relu.unit_norm != reaches
        assert (relu.pre_bias == "b_dec") != reaches


def test_initial_lengths_of_the_two_forms(made) -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    for form, length in (("unit", 1.0), ("free", 0.1)):
        relu = made("relu", l1_coef=0.7, decoder_norm=form).float()
        relu.init(torch.Generator().manual_seed(1), x, x + 2)
        torch.testing.assert_close(relu.W_dec.norm(dim=1), torch.full((11,), length))
        torch.testing.assert_close(relu.b_dec.detach(), (x + 2).mean(0))
