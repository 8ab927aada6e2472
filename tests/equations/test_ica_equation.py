"""Independent components against plain loops and scikit-learn; the bounded sample of the classical methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import FastICA

from assay.core.errors import BadInput, BadOption
from assay.dictionaries.fitting import batches, reservoir
from assay.dictionaries.ica import Config, Ica


def mixed(n: int = 3000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """x [n, 6] off centre, from six independent Laplace sources through unit rows [6, 6]."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(6, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sources = rng.laplace(size=(n, 6)) * np.linspace(0.5, 3, 6)
    return torch.from_numpy(sources @ directions + np.arange(6) - 2.0), torch.from_numpy(directions)


def fitted(x: torch.Tensor, seed: int = 0, **options) -> Ica:
    ica = Ica(Config(d_in=6, **options)).double()
    ica.fit([x], torch.Generator().manual_seed(seed))
    return ica


def seed_drawn_second(seed: int) -> int:
    """The library's seed: the second number of the generator, after the sample's."""
    rng = torch.Generator().manual_seed(seed)
    return [int(torch.randint(1 << 31, (1,), generator=rng)) for _ in range(2)][1]


@pytest.mark.parametrize("d_sae", [6, 4])
def test_components_are_those_of_scikit_learn(d_sae) -> None:
    x, _ = mixed()
    ica = fitted(x, k=2, d_sae=d_sae)
    theirs = FastICA(
        d_sae, whiten="unit-variance", whiten_solver="eigh", random_state=seed_drawn_second(0), max_iter=200
    ).fit(x.numpy())
    mixing, W_dec = theirs.mixing_.T, ica.W_dec.detach().numpy()
    for i in range(d_sae):
        row = mixing[i] / np.linalg.norm(mixing[i])
        row = row * np.sign(row[np.argmax(np.abs(row))])
        np.testing.assert_allclose(W_dec[i], row, atol=1e-9)
    np.testing.assert_allclose(ica.b_dec.detach().numpy(), x.numpy().mean(0), atol=1e-12)
    projected = theirs.inverse_transform(theirs.transform(x.numpy()))
    everything = ((x - ica.b_dec) @ ica.W_enc @ ica.W_dec + ica.b_dec).detach().numpy()
    np.testing.assert_allclose(everything, projected, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_codes_are_the_k_largest_in_size(k) -> None:
    x, _ = mixed()
    ica = fitted(x, k=k)
    W_enc, W_dec, mean = (p.detach().numpy() for p in (ica.W_enc, ica.W_dec, ica.b_dec))
    f = np.zeros((20, 6))
    for b in range(20):
        u = [(x[b].numpy() - mean) @ W_enc[:, i] for i in range(6)]
        for i in sorted(range(6), key=lambda i: -abs(u[i]))[:k]:
            f[b, i] = u[i]
    np.testing.assert_allclose(ica.encode(x[:20]).detach().numpy(), f, atol=1e-12)
    np.testing.assert_allclose(ica(x[:20]).detach().numpy(), f @ W_dec + mean, atol=1e-12)
    if k == 6:
        np.testing.assert_allclose(ica(x[:20]).detach().numpy(), x[:20].numpy(), atol=1e-9)


def test_it_finds_the_sources_that_pca_cannot() -> None:
    x, directions = mixed()
    cosine = (fitted(x, k=2).W_dec.detach() @ directions.T).abs().max(0).values
    assert float(cosine.min()) > 0.98
    _, _, V = np.linalg.svd(x.numpy() - x.numpy().mean(0))
    assert np.abs(V @ directions.numpy().T).max(0).min() < 0.9


def test_what_is_impossible_is_said() -> None:
    x, _ = mixed()
    flat = x.clone()
    flat[:, 5] = flat[:, 0] + flat[:, 1]
    with pytest.raises(BadInput, match=r"vary along 5 directions only.*--d-sae 5"):
        fitted(flat, k=2)
    fitted(flat, k=2, d_sae=5)
    with pytest.raises(BadInput, match="vary along 0 directions"):
        fitted(x[:1], k=2)
    with pytest.raises(BadOption, match=r"--d-sae is 7.*at most d_in=6"):
        Config(d_in=6, d_sae=7, k=2)


def test_the_reservoir_is_a_fair_bounded_sample() -> None:
    x = torch.arange(40, dtype=torch.float64)[:, None]
    counts = np.zeros(40)
    for seed in range(1500):
        rows, mean = reservoir([x[:7], x[7:30], x[30:]], 10, torch.Generator().manual_seed(seed))
        assert rows.shape == (10, 1)
        assert float(mean) == 19.5, "the mean is over all rows"
        counts[rows[:, 0].long()] += 1
        assert bool((rows[:, 0].diff() > 0).all()), "in their order, none twice"
    np.testing.assert_allclose(counts / 1500, 0.25, atol=0.055)  # five standard deviations


def test_batches_have_one_size_whatever_the_chunks() -> None:
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for chunks in ([x], [x[:1], x[1:63], x[63:64], x[64:]]):
        made = list(batches(chunks, 16, first=30))
        assert [len(b) for b in made] == [30, 16, 16, 16, 16, 6]
        assert torch.equal(torch.cat(made), x)
    assert list(batches([], 16)) == []
