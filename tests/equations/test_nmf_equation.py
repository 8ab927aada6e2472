"""Non-negative factorisation against plain loops and SciPy's exact solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from assay.core.errors import BadInput
from assay.dictionaries.nmf import Config, Nmf


def made(shift: str, k: int, n_updates: int, seed: int = 0) -> Nmf:
    """Six dimensions, five latents with random non-negative factors of length 1."""
    nmf = Nmf(Config(d_in=6, d_sae=5, k=k, shift=shift, n_updates=n_updates)).double()
    H = np.random.default_rng(seed).random((5, 12 if shift == "split" else 6)) ** 2
    H /= np.linalg.norm(H, axis=1, keepdims=True)
    with torch.no_grad():
        nmf.W_enc.copy_(torch.from_numpy(H[:, :6]).T)
        nmf.W_dec.copy_(torch.from_numpy(H[:, :6] - H[:, 6:] if shift == "split" else H))
    return nmf


def rows(shift: str, n: int = 9, seed: int = 1) -> torch.Tensor:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x if shift == "split" else x.abs()


def factors(nmf: Nmf) -> np.ndarray:
    plus, W_dec = nmf.W_enc.detach().numpy().T, nmf.W_dec.detach().numpy()
    return np.concatenate([plus, plus - W_dec], 1) if nmf.config.shift == "split" else plus


def stacked(x: torch.Tensor, shift: str) -> np.ndarray:
    x = x.numpy()
    return np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], 1) if shift == "split" else x


def updated(v: np.ndarray, H: np.ndarray, f: list[float], on: list[int], n: int) -> list[float]:
    """n multiplicative updates of the latents `on`, one number at a time."""
    for _ in range(n):
        blend = [sum(f[j] * (H[j] @ H[i]) for j in on) for i in range(len(H))]
        f = [f[i] * (v @ H[i]) / blend[i] if i in on else 0.0 for i in range(len(H))]
    return f


@pytest.mark.parametrize("shift", ["none", "split"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_codes(shift, k) -> None:
    nmf, x = made(shift, k, 4), rows(shift)
    H, V = factors(nmf), stacked(x, shift)
    expected = np.zeros((len(x), 5))
    for b, v in enumerate(V):
        f = updated(v, H, [v @ H[i] for i in range(5)], list(range(5)), 4)
        on = sorted(range(5), key=lambda i: (-f[i], i))[:k]
        expected[b] = updated(v, H, f, on, 4)
    np.testing.assert_allclose(nmf.encode(x).detach().numpy(), expected, rtol=1e-10, atol=1e-14)
    signed = H[:, :6] - H[:, 6:] if shift == "split" else H
    np.testing.assert_allclose(nmf(x).detach().numpy(), expected @ signed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shift", ["none", "split"])
def test_many_updates_reach_the_least_squares_solution(shift) -> None:
    x = rows(shift)
    whole, few = made(shift, 5, 4000), made(shift, 2, 4000)
    H, V = factors(whole), stacked(x, shift)
    found, cut = whole.encode_sparse(x).dense().numpy(), few.encode_sparse(x).dense().numpy()
    for b, v in enumerate(V):
        np.testing.assert_allclose(found[b], nnls(H.T, v)[0], atol=5e-3)
        on = np.flatnonzero(cut[b])
        np.testing.assert_allclose(cut[b, on], nnls(H[on].T, v)[0], atol=5e-3)


def test_fit_gives_non_negative_factors_of_length_one() -> None:
    rng = torch.Generator().manual_seed(0)
    x = rows("split", 400)
    nmf = Nmf(Config(d_in=6, d_sae=5, k=3, shift="split", batch_size_fit=64)).double()
    nmf.fit([x], rng)
    H = factors(nmf)
    assert H.min() >= -1e-15
    np.testing.assert_allclose(np.linalg.norm(H, axis=1), 1.0, rtol=1e-12)
    assert not nmf.b_dec.any()
    plain = Nmf(Config(d_in=6, d_sae=5, k=3, batch_size_fit=64)).double()
    plain.fit([x.abs()], rng)
    assert torch.equal(plain.W_dec, plain.W_enc.t())
    assert bool((plain.W_dec >= 0).all())


def test_signed_data_are_refused_in_one_sentence() -> None:
    x = rows("none")
    x[4, 2] = -0.25
    sentence = (
        r"nmf reads non-negative activations, but row 4 holds -0\.25; use --shift split, or a site after a ReLU\."
    )
    with pytest.raises(BadInput, match=sentence):
        made("none", 2, 3).encode(x)
    with pytest.raises(BadInput, match=sentence):
        made("none", 2, 3).fit([x], torch.Generator().manual_seed(0))
    assert made("split", 2, 3).encode(x).shape == (9, 5)
    assert not made("none", 2, 3).encode(torch.zeros(2, 6, dtype=torch.float64)).any(), "nothing to explain"
