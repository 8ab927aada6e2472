"""The AUC within groups from one sort, against scikit-learn group by group, and against pairs counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from assay.metrics.auc import auc, auc_by_group


@pytest.mark.parametrize("steps", [None, 3])
def test_each_group_is_scikit_learns(steps: int | None) -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(2, 3, 90)).astype(np.float32)
    scores = scores if steps is None else np.round(scores * steps) / steps - 0.0  # ties, and -0 beside 0
    y, group = rng.integers(0, 2, 90), rng.permutation(np.arange(90) % 3)
    found = auc_by_group(torch.tensor(scores), torch.tensor(y), torch.tensor(group), 3)
    assert found.shape == (2, 3, 3)
    for i, j, g in np.ndindex(2, 3, 3):
        assert float(found[i, j, g]) == pytest.approx(roc_auc_score(y[group == g], scores[i, j, group == g]), abs=1e-12)


def test_rows_without_equal_scores_beside_rows_with() -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(5, 60)).astype(np.float32)
    scores[[1, 4]] = np.round(scores[[1, 4]], 1)
    y = rng.integers(0, 2, (5, 60))
    found = auc(torch.tensor(scores), torch.tensor(y))
    known = [roc_auc_score(labels, row) for labels, row in zip(y, scores, strict=True)]
    assert np.abs(found.numpy() - known).max() < 1e-12


def test_pairs_by_hand_and_groups_without_a_class() -> None:
    scores = torch.tensor([[-0.0, 0.0, -2.0, 5.0, 1.0, 7.0]])
    y, group = torch.tensor([0, 1, 1, 0, 1, 1]), torch.tensor([0, 0, 0, 3, 1, 3])
    found = auc_by_group(scores, y, group, 5)[0]
    assert found[0] == 0.25  # of two pairs one is equal and one is lost
    assert found[3] == 1.0
    assert torch.isnan(found[[1, 2, 4]]).all()  # one class, nobody, nobody


def test_single_precision_gives_what_double_does_with_other_labels_in_each_row() -> None:
    rng = np.random.default_rng(5)
    scores = torch.tensor(np.round(rng.normal(size=(4, 50)), 1)).float()
    y = torch.tensor(rng.integers(0, 2, (4, 50)))
    assert torch.allclose(auc(scores, y), auc(scores.double(), y), atol=1e-12, rtol=0)
