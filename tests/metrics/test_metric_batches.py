"""No metric depends on how the tokens came in batches, nor on the order of the documents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.metrics import fidelity, language, shrinkage, sparsity
from assay.metrics.ratio import Mean, Ratio, Terms

N, D = 40, 5
RNG = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=RNG) + 2
X_HAT = X + torch.randn(N, D, generator=RNG)
CLEAN, SPLICED, ABLATED = (torch.rand(N, generator=RNG) + i for i in range(3))
F = torch.randn(N, 9, generator=RNG) * (torch.rand(N, 9, generator=RNG) < 0.3)


def terms_of(name: str, rows: torch.Tensor, mean: torch.Tensor) -> Terms:
    x, x_hat = X[rows], X_HAT[rows]
    row, latent = F[rows].nonzero(as_tuple=True)
    return {
        "fvu": lambda: fidelity.fvu_terms(x, x_hat, mean),
        "cosine": lambda: fidelity.cosine_terms(x, x_hat),
        "norm_ratio": lambda: fidelity.norm_ratio_terms(x, x_hat),
        "gamma": lambda: shrinkage.bias_terms(x, x_hat),
        "l0": lambda: sparsity.l0_terms(row, F[rows][row, latent], len(rows)),
        "loss_recovered": lambda: language.loss_recovered_terms(CLEAN[rows], SPLICED[rows], ABLATED[rows]),
        "delta_loss": lambda: language.delta_loss_terms(CLEAN[rows], SPLICED[rows]),
    }[name]()


WHOLE = {
    "fvu": fidelity.fvu(X, X_HAT),
    "cosine": fidelity.cosine(X, X_HAT),
    "norm_ratio": fidelity.norm_ratio(X, X_HAT),
    "gamma": shrinkage.relative_reconstruction_bias(X, X_HAT),
    "l0": sparsity.l0(F),
    "loss_recovered": language.loss_recovered(CLEAN, SPLICED, ABLATED),
    "delta_loss": language.delta_loss_nats(CLEAN, SPLICED),
}


@settings(max_examples=30, deadline=None)
@given(
    order=st.permutations(range(N)),
    cuts=st.sets(st.integers(1, N - 1), max_size=8),
    documents=st.lists(st.integers(0, 6), min_size=N, max_size=N),
)
@pytest.mark.parametrize("name", list(WHOLE))
def test_every_metric_is_unchanged_by_batches_and_order(
    name: str, order: list[int], cuts: set[int], documents: list[int]
) -> None:
    batches = [b for b in torch.tensor(order).tensor_split(sorted(cuts)) if len(b)]
    mean = Mean()
    for rows in batches:
        mean.add(X[rows])
    torch.testing.assert_close(mean.value, X.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(mean.spread, X.double().var(0, correction=0), rtol=1e-10, atol=0)
    of = torch.tensor(documents)
    ratio = Ratio(7)
    for rows in batches:
        ratio.add(of[rows], terms_of(name, rows, mean.value))
    assert ratio.value() == pytest.approx(WHOLE[name], rel=1e-11)
    chosen = [0, 2, 5]
    some = torch.isin(of, torch.tensor(chosen)).nonzero().flatten()
    if len(some):
        num, den = terms_of(name, some, mean.value)
        assert ratio.value(chosen) == pytest.approx(float(num.sum() / den.sum()), rel=1e-9)
    assert ratio.n_obs.tolist() == torch.bincount(of, minlength=7).tolist()


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(N)), cuts=st.sets(st.integers(1, N - 1), max_size=8))
def test_firing_is_unchanged_by_batches_and_order(order: list[int], cuts: set[int]) -> None:
    firing = sparsity.Firing(9)
    for rows in torch.tensor(order).tensor_split(sorted(cuts)):
        _, latent = F[rows].nonzero(as_tuple=True)
        firing.add(latent, torch.ones(len(latent)), len(rows))
    assert firing.counts.tolist() == (F != 0).sum(0).tolist()
    assert firing.n_tokens == N


def test_a_large_common_offset_costs_no_digits() -> None:
    x = X.double() + 1e7
    mean = Mean()
    mean.add(x[:13])
    mean.add(x[13:])
    torch.testing.assert_close(mean.spread, X.double().var(0, correction=0), rtol=1e-6, atol=0)


def test_a_mean_of_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="before any row"):
        _ = Mean().value
