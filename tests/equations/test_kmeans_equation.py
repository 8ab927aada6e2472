"""k-means codes against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin

from assay.core.errors import BadInput, BadOption
from assay.dictionaries.kmeans import Config, Kmeans


def data(n: int = 800, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    middles = 2 * torch.randn(9, 6, generator=rng, dtype=torch.float64) + 3.0
    which = torch.randint(9, (n,), generator=rng)
    return middles[which] + 0.3 * torch.randn(n, 6, generator=rng, dtype=torch.float64)


def fitted(x: torch.Tensor, **options) -> Kmeans:
    kmeans = Kmeans(Config(d_in=6, d_sae=9, batch_size_fit=100, **options)).double()
    kmeans.fit([x], torch.Generator().manual_seed(0))
    return kmeans


def centroids(kmeans: Kmeans) -> np.ndarray:
    W_enc, length, b_dec = (p.detach().numpy() for p in (kmeans.W_enc, kmeans.get_parameter("length"), kmeans.b_dec))
    return b_dec + length[:, None] * W_enc.T


def test_one_hot_reconstructs_the_nearest_centroid() -> None:
    x = data()
    kmeans = fitted(x)
    c = centroids(kmeans)
    nearest = pairwise_distances_argmin(x.numpy(), c)
    f = kmeans.encode(x).detach().numpy()
    for b in range(len(x)):
        assert np.flatnonzero(f[b]).tolist() == [nearest[b]]
        np.testing.assert_allclose(f[b, nearest[b]], np.linalg.norm(c[nearest[b]] - x.numpy().mean(0)), rtol=1e-12)
    np.testing.assert_allclose(kmeans(x).detach().numpy(), c[nearest], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(kmeans.W_dec.detach().numpy(), axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(kmeans.b_dec.detach().numpy(), x.numpy().mean(0), rtol=1e-12)


@pytest.mark.parametrize("k", [None, 1, 3])
def test_triangle_codes(k) -> None:
    x = data()
    kmeans = fitted(x, codes="triangle", k=k)
    c = centroids(kmeans)
    x = torch.cat([x[:40], torch.from_numpy(c), torch.from_numpy(c + 1e-7)])  # on a centroid, and almost
    expected = np.zeros((58, 9))
    for b in range(58):
        d = [np.sqrt(sum((x[b, j].item() - c[i, j]) ** 2 for j in range(6))) for i in range(9)]
        f = [max(0.0, sum(d) / 9 - d[i]) for i in range(9)]
        for i in sorted(range(9), key=lambda i: (-f[i], i))[: k or 9]:
            expected[b, i] = f[i]
    np.testing.assert_allclose(kmeans.encode(x).detach().numpy(), expected, rtol=0, atol=1e-11)
    assert k is not None or 3 < (expected > 0).sum(1).mean() < 8, "about half of them"


def test_the_triangle_decoder_is_the_least_squares_one() -> None:
    x = data()
    kmeans = fitted(x, codes="triangle", k=4)
    f = kmeans.encode(x).detach().numpy()
    centred = x.numpy() - x.numpy().mean(0)
    best = np.linalg.lstsq(f, centred, rcond=None)[0]
    ours = ((f @ kmeans.W_dec.detach().numpy() - centred) ** 2).sum()
    assert ours == pytest.approx(((f @ best - centred) ** 2).sum(), rel=1e-6)
    assert ours < 0.2 * (centred**2).sum()


def test_the_centroids_are_those_of_the_clusters() -> None:
    x = data()
    spread = ((x.numpy() - centroids(fitted(x))[pairwise_distances_argmin(x.numpy(), centroids(fitted(x)))]) ** 2).sum()
    assert spread < 0.1 * ((x.numpy() - x.numpy().mean(0)) ** 2).sum()


def test_what_is_impossible_is_said() -> None:
    with pytest.raises(BadInput, match=r"8 rows make no 9 clusters.*--d-sae"):
        fitted(data(8))
    with pytest.raises(BadInput, match="no rows to cluster"):
        Kmeans(Config(d_in=6, d_sae=9)).fit([], torch.Generator().manual_seed(0))
    with pytest.raises(BadOption, match=r"--k is 3.*--codes onehot"):
        Config(d_in=6, d_sae=9, k=3)
    with pytest.raises(BadOption, match="--k is 10"):
        Config(d_in=6, d_sae=9, k=10, codes="triangle")
