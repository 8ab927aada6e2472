"""TopK SAE against plain loops written from arXiv 2406.04093, sections 2.3 (the code) and 2.2 (the loss)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.dictionaries.initialisation import geometric_median
from assay.kernels import implementation
from assay.training import step


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def paper(p: dict[str, np.ndarray], x: np.ndarray, k: int) -> np.ndarray:
    """relu, then the k largest of each row, ties to the lower latent."""
    f = np.zeros((len(x), len(p["b_enc"])))
    for b in range(len(x)):
        pre = [
            max(sum(p["W_enc"][j, i] * (x[b, j] - p["b_dec"][j]) for j in range(x.shape[1])) + p["b_enc"][i], 0.0)
            for i in range(f.shape[1])
        ]
        for i in sorted(range(len(pre)), key=lambda i: (-pre[i], i))[:k]:
            f[b, i] = pre[i]
    return f


@pytest.mark.parametrize("arch", ["topk", "random"])
@pytest.mark.parametrize("k", [1, 4, 11])
def test_codes_output_and_loss(made, rows, arch, k) -> None:
    topk, x, y = made(arch, k=k), rows(30, 0), rows(30, 1)
    p = arrays(topk)
    f = paper(p, x.numpy(), k)
    if k == 11:
        assert (f == 0).any(), "relu comes first, so L0 may be below k"
    else:
        assert ((f != 0).sum(1) == k).any()
    np.testing.assert_allclose(topk.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    x_hat = f @ p["W_dec"] + p["b_dec"]
    np.testing.assert_allclose(topk(x).detach().numpy(), x_hat, rtol=1e-11, atol=1e-12)
    terms = topk.loss(x, y)
    assert set(terms) == {"recon"}
    assert float(terms["recon"]) == pytest.approx(((y.numpy() - x_hat) ** 2).sum() / 30, rel=1e-12)


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_gradients_by_hand(made, rows, kernel) -> None:
    """c = alpha 1[z > 0] on the support; db_dec = sum_b g - W_enc sum_b c (the table of DESIGN, section 3)."""
    topk, x, y = made("topk", k=4), rows(30, 0), rows(30, 1)
    p, B = arrays(topk), 30
    f = paper(p, x.numpy(), 4)
    g = 2 * (f @ p["W_dec"] + p["b_dec"] - y.numpy()) / B
    expected = {n: np.zeros_like(a) for n, a in p.items()}
    expected["b_dec"] = g.sum(0)
    for b in range(B):
        for i in range(11):
            if f[b, i] == 0:
                continue
            c = float(g[b] @ p["W_dec"][i])
            expected["W_dec"][i] += f[b, i] * g[b]
            expected["b_enc"][i] += c
            expected["W_enc"][:, i] += c * (x.numpy()[b] - p["b_dec"])
            expected["b_dec"] -= c * p["W_enc"][:, i]
    found = step.sparse(topk, x, y, {"recon": 1.0}, 1.0, implementation(kernel)).grads
    for name, grad in found.items():
        np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_ties_go_to_the_lower_latent(made) -> None:
    topk = made("topk", k=3, d_in=2, d_sae=8)
    with torch.no_grad():
        topk.b_dec.zero_()
        topk.b_enc.zero_()
        topk.W_enc.copy_(torch.tensor([[1.0, 2.0, 1.0, 1.0, 2.0, 0.0, 1.0, -1.0], [0.0] * 8]))
    f = topk.encode(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)).detach()
    assert f[0].tolist() == [1.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    assert f[1].tolist() == [0.0] * 7 + [1.0]


def test_the_random_control_trains_everything_but_its_directions(made, rows) -> None:
    random = made("random", k=4)
    found = step.sparse(random, rows(9, 0), rows(9, 1), {"recon": 1.0}, 1.0, implementation("torch")).grads
    assert set(found) == {"W_enc", "b_enc", "b_dec"}
    assert all(bool(g.any()) for g in found.values())
    assert set(step.trainable(random)) == set(found)


def test_b_dec_starts_at_the_geometric_median() -> None:
    """The point of least summed distance: no small move makes the sum smaller, and one outlier hardly moves it."""
    x = torch.randn(401, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    x[0] = 1e5
    median = geometric_median(x)
    total = (x - median).norm(dim=1).sum()
    for move in torch.eye(3, dtype=torch.float64):
        for sign in (-1e-3, 1e-3):
            assert (x - (median + sign * move)).norm(dim=1).sum() > total
    assert float((median - 5).abs().max()) < 0.2 < float((x.mean(0) - 5).abs().max())
