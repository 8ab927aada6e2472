"""Thresholds in motion: pairs in the window and thresholds that left their start, by counting."""

from __future__ import annotations

import pytest
import torch

from assay.metrics.mobility import moved_frac, warning, window_frac


def test_pairs_in_the_window_are_counted_on_both_sides() -> None:
    theta = torch.tensor([0.5, 2.0])
    z = torch.tensor([[0.54, 1.0], [0.46, 2.3], [0.56, 1.96], [-0.5, 2.04]])
    assert window_frac(z, theta, 0.1) == pytest.approx(4 / 8)
    assert window_frac(z, theta, 0.14) == pytest.approx(5 / 8)
    assert window_frac(z, theta, 0.001) == 0.0
    assert window_frac(z[:0], theta, 0.1) == 0.0


def test_a_threshold_has_moved_when_it_is_farther_than_the_bandwidth() -> None:
    start = torch.tensor([0.1, 0.1, 0.1, 0.1])
    theta = torch.tensor([0.1, 0.19, 0.21, -0.01])
    assert moved_frac(theta, start, 0.1) == 0.5
    assert moved_frac(theta, start, 0.2) == 0.0
    assert moved_frac(theta, start, 0.01) == 0.75


def test_the_warning_names_the_cause() -> None:
    assert warning(window=0.01, moved=0.4, eps=0.1, n_rows=2048) is None
    empty = warning(window=1e-4, moved=0.0, eps=0.001, n_rows=2048)
    assert empty is not None
    assert empty.startswith("thresholds do not move: 0.0% of them are farther than 0.001 from where they began")
    assert empty.endswith(
        "0.2 tokens of a batch within the bandwidth 0.001 of its threshold; give a wider --bandwidth."
    )
    slow = warning(window=0.01, moved=0.02, eps=0.1, n_rows=2048)
    assert slow is not None
    assert slow.endswith("20 tokens of a batch within the bandwidth 0.1 of its threshold; train longer or raise --lr.")
    blind = warning(window=1e-5, moved=0.9, eps=0.001, n_rows=2048)
    assert blind is not None
    assert blind.startswith("thresholds hardly learn: a latent has 0.02 tokens of a batch")
