"""Orthogonal matching pursuit against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from assay.core.errors import BadInput
from assay.dictionaries.sparse_coding import Config, SparseCoding


def made(k: int, seed: int = 0) -> SparseCoding:
    """Eleven random unit rows in six dimensions, and an offset."""
    coding = SparseCoding(Config(d_in=6, d_sae=11, k=k)).double()
    D = np.random.default_rng(seed).normal(size=(11, 6))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    with torch.no_grad():
        coding.W_dec.copy_(torch.from_numpy(D))
        coding.W_enc.copy_(coding.W_dec.T)
        coding.b_dec.copy_(torch.linspace(-1, 2, 6))
    return coding


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pursuit(made_rows, k) -> None:
    coding, x = made(k), made_rows
    D, b = coding.W_dec.detach().numpy(), coding.b_dec.detach().numpy()
    expected = np.zeros((len(x), 11))
    for row in range(len(x)):
        r, chosen = x[row].numpy() - b, []
        for _ in range(k):
            chosen.append(max((i for i in range(11) if i not in chosen), key=lambda i: abs(r @ D[i])))
            f = np.linalg.lstsq(D[chosen].T, x[row].numpy() - b, rcond=None)[0]
            r = x[row].numpy() - b - f @ D[chosen]
        expected[row, chosen] = f
    found = coding.encode(x).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-10)
    theirs = orthogonal_mp(D.T, (x.numpy() - b).T, n_nonzero_coefs=k).T
    np.testing.assert_allclose(found, theirs.reshape(len(x), 11), atol=1e-9)
    np.testing.assert_allclose(coding(x).detach().numpy(), expected @ D + b, atol=1e-10)
    assert (found < 0).any()


@pytest.fixture
def made_rows() -> torch.Tensor:
    return 2 * torch.randn(30, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_a_row_stops_when_nothing_is_left() -> None:
    coding = made(4)
    D, b = coding.W_dec.detach(), coding.b_dec.detach()
    x = torch.stack([b, b - 3 * D[4], b + 2 * D[1]])
    f = coding.encode(x).detach()
    assert (f != 0).sum(1).tolist() == [0, 1, 1]
    assert float(f[1, 4]) == pytest.approx(-3)
    assert float(f[2, 1]) == pytest.approx(2)


def test_two_equal_rows_are_used_once(made_rows) -> None:
    coding = made(5)
    with torch.no_grad():
        coding.W_dec[7] = coding.W_dec[2]
        coding.W_enc.copy_(coding.W_dec.T)
    f = coding.encode(made_rows).detach()
    assert bool(torch.isfinite(f).all())
    assert bool((f[:, 2] != 0).any())
    assert not f[:, 7].any(), "ties to the lower latent, and nothing is left along the other"


def test_more_places_than_dimensions(made_rows) -> None:
    coding = made(11)
    f = coding.encode(made_rows)
    torch.testing.assert_close(coding.decode(f), made_rows, rtol=1e-8, atol=1e-8)
    assert int((f != 0).sum(1).max()) <= 6


def test_fit_centres_and_keeps_rows_of_length_one(made_rows) -> None:
    coding = SparseCoding(Config(d_in=6, d_sae=11, k=2, batch_size_fit=8)).double()
    coding.fit([made_rows], torch.Generator().manual_seed(0))
    torch.testing.assert_close(coding.b_dec.detach(), made_rows.mean(0))
    torch.testing.assert_close(coding.W_dec.norm(dim=1), torch.ones(11, dtype=torch.float64))
    assert torch.equal(coding.W_enc, coding.W_dec.t())
    larger = SparseCoding(Config(d_in=6, d_sae=11, k=2, batch_size_fit=8)).double()
    larger.fit([100 * made_rows], torch.Generator().manual_seed(0))
    torch.testing.assert_close(larger.W_dec, coding.W_dec, rtol=1e-6, atol=1e-6)
    with pytest.raises(BadInput, match="10 rows are too few for 11 latents"):
        coding.fit([made_rows[:10]], torch.Generator().manual_seed(0))
