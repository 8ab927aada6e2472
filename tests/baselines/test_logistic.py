"""The batched logistic solver against scikit-learn, one fit at a time, and the AUC against it too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from assay.baselines.logistic import fit
from assay.core.errors import BadInput
from assay.metrics.auc import auc

STRENGTHS = (1e-3, 0.03, 1.0, 30.0)


def made_up(problems: int, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated, shifted features of unequal scale; unbalanced labels; a mask of folds [n, folds]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(problems, n, d)) @ (np.eye(d) + 0.4 * rng.normal(size=(d, d))) + rng.normal(size=d)
    truth = x @ rng.normal(size=(problems, d, 1)) / d
    y = (rng.random((problems, n)) < 1 / (1 + np.exp(1.0 - truth[..., 0]))).astype(float)
    folds = np.stack([np.ones(n), *(np.arange(n) % 3 != f for f in range(3))], 1).astype(float)
    return x, y, folds


@pytest.mark.parametrize(("n", "d"), [(200, 3), (150, 24), (300, 40), (30, 60), (250, 128)])
def test_coefficients_and_auc_are_those_of_scikit_learn(n: int, d: int) -> None:
    x, y, folds = made_up(2, n, d, seed=n + d)
    y[:, :4] = [0, 1, 0, 1]
    weight = np.repeat(folds, len(STRENGTHS), axis=1)
    c = torch.tensor(STRENGTHS * folds.shape[1], dtype=torch.float64)
    tensors = [torch.tensor(t) for t in (x, y, np.stack([weight] * 2))]
    found = fit(*tensors, c, tol=1e-8)
    assert bool(found.converged.all())
    scores = found.scores(tensors[0])
    for p in range(2):
        for m in range(weight.shape[1]):
            rows = weight[:, m] > 0
            known = LogisticRegression(C=float(c[m]), solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
                x[p][rows], y[p][rows]
            )
            assert np.abs(found.coef[p, :, m].numpy() - known.coef_[0]).max() < 1e-4
            assert abs(float(found.intercept[p, m]) - known.intercept_[0]) < 1e-4
            theirs = roc_auc_score(y[p], known.decision_function(x[p]))
            assert float(auc(scores[p, :, m], tensors[1][p])) == pytest.approx(theirs, abs=1e-4)


def test_single_precision_is_within_the_stated_tolerance() -> None:
    x, y, folds = made_up(2, 400, 64, seed=5)
    weight = torch.tensor(np.stack([folds] * 2))
    c = torch.tensor([0.1] * 4)
    double = fit(torch.tensor(x), torch.tensor(y), weight, c.double(), tol=1e-9)
    single = fit(torch.tensor(x).float(), torch.tensor(y).float(), weight.float(), c, tol=1e-4)
    assert float((single.coef - double.coef).abs().max()) < 1e-4
    assert bool(single.converged.all())


def test_row_weights_count_as_repeated_rows_and_other_labels_in_each_column() -> None:
    x, y, _ = made_up(1, 60, 30, seed=9)
    times = np.random.default_rng(0).integers(1, 4, 60)
    flipped = 1 - y
    labels = torch.tensor(np.stack([y[0], flipped[0]], 1))[None]
    found = fit(
        torch.tensor(x), labels, torch.tensor(np.stack([times, times], 1)[None].astype(float)), torch.ones(2).double()
    )
    repeated = np.repeat(np.arange(60), times)
    known = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
        x[0][repeated], y[0][repeated]
    )
    assert np.abs(found.coef[0, :, 0].numpy() - known.coef_[0]).max() < 1e-4
    assert torch.allclose(found.coef[0, :, 1], -found.coef[0, :, 0], atol=1e-5)


def test_what_did_not_converge_is_told() -> None:
    x, y, folds = made_up(1, 200, 40, seed=1)
    found = fit(torch.tensor(x), torch.tensor(y), torch.tensor(folds[None]), torch.full((4,), 1e3).double(), max_iter=2)
    assert not bool(found.converged.any())


def test_perfectly_separated_rows_converge_since_the_penalty_bounds_them() -> None:
    x = (
        torch.cat([torch.linspace(-2, -1, 20), torch.linspace(1, 2, 20)])[None, :, None]
        .double()
        .expand(1, 40, 30)
        .clone()
    )
    y = (x[..., 0] > 0).double()
    found = fit(x, y, torch.ones(1, 40, 1).double(), torch.tensor([1e4]).double())
    assert bool(found.converged.all()) and bool(torch.isfinite(found.coef).all())


def test_columns_far_from_zero_and_one_weight_for_all_columns() -> None:
    x, y, folds = made_up(2, 200, 6, seed=3)
    x, c = torch.tensor(x) * 0.3 + 40, torch.tensor([0.01, 1.0, 50.0]).double()
    weight = torch.tensor(np.stack([folds[:, 1:2]] * 2))
    found = fit(x, torch.tensor(y), weight, c, tol=1e-8)
    spread_out = fit(
        x.transpose(1, 2).contiguous().transpose(1, 2), torch.tensor(y), weight.expand(-1, -1, 3), c, tol=1e-8
    )
    assert torch.allclose(found.coef, spread_out.coef, atol=1e-7)
    rows = folds[:, 1] > 0
    for p in range(2):
        for m in range(3):
            known = LogisticRegression(C=float(c[m]), solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
                x[p][rows] - 40, y[p][rows]
            )
            assert np.abs(found.coef[p, :, m].numpy() - known.coef_[0]).max() < 1e-4
            score = (x[p] @ found.coef[p, :, m] + found.intercept[p, m]).numpy()
            assert np.abs(score - known.decision_function(x[p] - 40)).max() < 1e-3


def test_the_tolerance_is_a_share_of_the_coefficients_however_small_they_are() -> None:
    x, y, folds = made_up(1, 200, 40, seed=4)
    x = torch.tensor((x - x.mean(1, keepdims=True)) * 0.02)
    weight, c = torch.tensor(folds[None, :, :1]), torch.ones(1).double()
    loose, tight = (fit(x, torch.tensor(y), weight, c, tol=tol) for tol in (1e-2, 1e-9))
    assert float((loose.coef - tight.coef).abs().max()) < 3e-3 * float(tight.coef.abs().max())


def test_labels_that_are_rare_and_nearly_separable_converge_in_single_precision() -> None:
    rng = np.random.default_rng(8)
    codes = np.where(rng.random((1, 500, 16)) < 0.03, rng.exponential(size=(1, 500, 16)), 0)
    y = (codes[..., 0] > 0.5).astype(float)
    x = torch.tensor((codes - codes.mean(1, keepdims=True)) / codes.std(1, keepdims=True)).float()
    c = torch.tensor([1e-4, 1e-2, 1.0, 100.0])
    found = fit(x, torch.tensor(y).float(), torch.ones(1, 500, 1), c, tol=1e-4)
    assert bool(found.converged.all())
    for m in range(4):
        known = LogisticRegression(C=float(c[m]), solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
            x[0].double().numpy(), y[0]
        )
        size = np.abs(known.coef_).max()
        assert np.abs(found.coef[0, :, m].numpy() - known.coef_[0]).max() < 3e-3 * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_problem_with_nothing_to_learn_waits_for_the_others_at_zero(dtype: torch.dtype) -> None:
    """Its gradient is exactly 0 from the start, while too few columns are done for any to be set aside."""
    x = torch.tensor(np.random.default_rng(0).normal(size=(8, 64, 6))).to(dtype)
    x[0] = 0
    y = (x[..., 0] > 0).to(dtype)
    y[0, ::2] = 1
    found = fit(x, y, torch.ones(8, 64, 1, dtype=dtype), torch.tensor([0.01, 1.0, 100.0], dtype=dtype), tol=1e-4)
    assert bool(found.converged.all())
    assert not found.coef[0].any() and not found.intercept[0].any()
    assert bool((found.coef[1:, 0] > 0).all())


@pytest.mark.parametrize("case", ["one class", "not finite", "strength", "rows"])
def test_bad_input_is_one_sentence(case: str) -> None:
    x, y, w, c = torch.randn(1, 8, 2), torch.tensor([[0.0, 1] * 4]), torch.ones(1, 8, 1), torch.ones(1)
    if case == "one class":
        w[0, ::2] = 0
    elif case == "not finite":
        x[0, 0, 0] = torch.nan
    elif case == "strength":
        c = -c
    else:
        y = y[:, :4]
    with pytest.raises(BadInput):
        fit(x, y, w, c)


def test_auc_counts_ties_half_and_leaves_out_rows_of_weight_0() -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 5, size=(6, 40)).astype(float)
    y = rng.integers(0, 2, 40)
    keep = rng.random((6, 40)) < 0.7
    found = auc(torch.tensor(scores), torch.tensor(y), torch.tensor(keep))
    known = [roc_auc_score(y[k], s[k]) for s, k in zip(scores, keep, strict=True)]
    assert np.abs(found.numpy() - known).max() < 1e-12
    assert bool(torch.isnan(auc(torch.ones(4), torch.ones(4))))
