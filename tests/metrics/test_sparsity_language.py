"""L0, dead and dense shares, loss recovered: counted by hand and in plain loops."""

from __future__ import annotations

import pytest
import torch

from assay.metrics.language import delta_loss_nats, loss_recovered
from assay.metrics.sparsity import Firing, l0, l0_terms


def test_l0_counts_negative_codes() -> None:
    f = torch.tensor([[0.0, -2.0, 1.0], [0.0, 0.0, 3.0]])
    assert l0(f) == 1.5


def test_sparse_l0_equals_dense_l0_also_with_stored_zeros_and_empty_rows() -> None:
    row, value = torch.tensor([0, 0, 2]), torch.tensor([1.0, 0.0, -1.0])
    counts, ones = l0_terms(row, value, 4)
    assert counts.tolist() == [1, 0, 1, 0]
    assert ones.tolist() == [1, 1, 1, 1]


def test_dead_and_dense_shares_by_hand() -> None:
    firing = Firing(4)  # latent 0 never, 1 on 1 of 100 tokens, 2 on 11, 3 on 2
    latent = torch.tensor([1] + [2] * 11 + [3] * 2 + [0])
    value = torch.tensor([1.0] * 14 + [0.0])  # the last pair is stored but zero: latent 0 did not fire
    firing.add(latent, value, 60)
    firing.add(torch.empty(0, dtype=torch.int64), torch.empty(0), 40)
    assert firing.n_tokens == 100
    assert firing.dead_share() == 0.25
    assert firing.dense_share(0.01) == 0.5  # "more than": 1 % itself is not dense
    assert firing.dense_share(0.10) == 0.25
    assert firing.frequency.tolist() == [0, 0.01, 0.11, 0.02]


def test_loss_recovered_by_a_plain_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    clean = torch.rand(30, generator=rng)
    spliced, ablated = clean + torch.rand(30, generator=rng), clean + 1 + torch.rand(30, generator=rng)
    sums = [0.0, 0.0, 0.0]
    for c, s, a in zip(clean.tolist(), spliced.tolist(), ablated.tolist()):
        sums = [sums[0] + c, sums[1] + s, sums[2] + a]
    clean_mean, spliced_mean, ablated_mean = (total / 30 for total in sums)
    expected = 1 - (spliced_mean - clean_mean) / (ablated_mean - clean_mean)
    assert loss_recovered(clean, spliced, ablated) == pytest.approx(expected, rel=1e-9)
    assert delta_loss_nats(clean, spliced) == pytest.approx(spliced_mean - clean_mean, rel=1e-9)


def test_loss_recovered_at_its_ends() -> None:
    clean, ablated = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 3.0])
    assert loss_recovered(clean, clean, ablated) == 1
    assert loss_recovered(clean, ablated, ablated) == 0
    assert loss_recovered(clean, clean - 0.5, ablated) > 1
