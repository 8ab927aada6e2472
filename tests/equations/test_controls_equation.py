"""The controls raw and pca against plain loops, and pca against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from assay.dictionaries import Dictionary, config_class
from assay.dictionaries import class_of as class_of_arch


def data(n: int = 500, seed: int = 0) -> torch.Tensor:
    """Correlated, off centre, with distinct variances: [n, 6] float64."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    return torch.randn(n, 6, generator=rng, dtype=torch.float64) @ mix + torch.arange(6) - 2.0


def fitted(arch: str, k: int, x: torch.Tensor) -> Dictionary:
    dictionary = class_of_arch(arch)(config_class(arch)(d_in=6, k=k)).double()
    dictionary.fit([x], torch.Generator().manual_seed(0))
    return dictionary


def k_largest(z: np.ndarray, k: int) -> np.ndarray:
    """The k largest |z| of each row with their signs, ties to the lower index."""
    f = np.zeros_like(z)
    for b in range(len(z)):
        for i in sorted(range(z.shape[1]), key=lambda i: (-abs(z[b, i]), i))[:k]:
            f[b, i] = z[b, i]
    return f


@pytest.mark.parametrize("k", [1, 3, 6])
def test_raw(k) -> None:
    x = data()
    raw = fitted("raw", k, x)
    mean = x.numpy().mean(0)
    f = k_largest(x.numpy() - mean, k)
    assert (f < 0).any()
    np.testing.assert_allclose(raw.encode(x).detach().numpy(), f, atol=1e-12)
    np.testing.assert_allclose(raw(x).detach().numpy(), f + mean, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_pca_against_scikit_learn(k) -> None:
    x = data()
    pca, theirs = fitted("pca", k, x), PCA(svd_solver="full").fit(x.numpy())
    signs = np.sign((theirs.components_ * pca.W_dec.detach().numpy()).sum(1))[:, None]
    np.testing.assert_allclose(pca.W_dec.detach().numpy(), signs * theirs.components_, atol=1e-9)
    np.testing.assert_allclose(pca.b_dec.detach().numpy(), theirs.mean_, atol=1e-12)
    f = k_largest(theirs.transform(x.numpy()) * signs[:, 0], k)
    np.testing.assert_allclose(pca.encode(x).detach().numpy(), f, atol=1e-9)
    np.testing.assert_allclose(pca(x).detach().numpy(), f @ (signs * theirs.components_) + theirs.mean_, atol=1e-9)


def test_pca_orders_and_signs_its_components() -> None:
    x = data()
    W_dec = fitted("pca", 2, x).W_dec.detach()
    spread = ((x - x.mean(0)) @ W_dec.T).var(0)
    assert bool((spread.diff() < 0).all())
    assert bool((W_dec.gather(1, W_dec.abs().argmax(1, keepdim=True)) > 0).all())


def test_with_every_code_kept_they_are_the_identity() -> None:
    x = data()
    for arch in ("raw", "pca"):
        np.testing.assert_allclose(fitted(arch, 6, x)(x).detach().numpy(), x.numpy(), atol=1e-10)


def test_the_k_largest_codes_beat_the_first_k_components() -> None:
    x = data()
    pca = fitted("pca", 2, x)
    first_two = PCA(n_components=2).fit(x.numpy())
    truncated = first_two.inverse_transform(first_two.transform(x.numpy()))
    ours = float((pca(x).detach() - x).pow(2).sum())
    assert ours < ((truncated - x.numpy()) ** 2).sum()


def test_equal_magnitudes_go_to_the_lower_coordinate() -> None:
    raw = class_of_arch("raw")(config_class("raw")(d_in=4, k=2)).double()
    with torch.no_grad():
        raw.W_enc.copy_(torch.eye(4))
    f = raw.encode(torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, -3.0, 0.0]], dtype=torch.float64)).detach()
    assert f.tolist() == [[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, -3.0, 0.0]]
