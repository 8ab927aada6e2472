"""The shuffled control: what it trains on, and that it does train on it."""

from __future__ import annotations

import pytest
import torch

from assay.core.randomness import torch_rng
from assay.dictionaries import build
from assay.dictionaries.shuffled import Config, shuffled
from assay.dictionaries.topk import Config as TopkConfig
from assay.training.member import Member
from assay.training.options import TrainConfig


@pytest.mark.parametrize(("n", "d"), [(50, 7), (7, 7), (5, 12)])
def test_every_column_is_permuted_and_no_two_columns_alike(n, d) -> None:
    source = torch.arange(n)[:, None].expand(n, d).float()  # every value says which row it came from
    mixed = shuffled(source, torch_rng(0, "a"))
    assert bool((mixed.sort(dim=0).values == source).all()), "each column keeps its values"
    for i in range(d):
        for j in range(i + 1, min(d, n)):
            together = (mixed[:, i] == mixed[:, j]).sum()
            assert int(together) == 0 or j >= n, f"columns {i} and {j} still meet in {int(together)} rows"


def test_the_order_of_rows_is_lost_too_and_follows_its_generator() -> None:
    source = torch.arange(400)[:, None].expand(400, 3).float()
    one, two, other = (shuffled(source, torch_rng(seed, "a")) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    for column in one.T:
        assert abs(float(torch.corrcoef(torch.stack([column, torch.arange(400).float()]))[0, 1])) < 0.2


def test_correlation_between_coordinates_is_gone_and_moments_are_kept() -> None:
    x = torch.randn(2000, 1, generator=torch_rng(0, "x")) * torch.tensor([1.0, -2.0, 3.0]) + torch.tensor(
        [0.0, 5.0, 1.0]
    )
    mixed = shuffled(x, torch_rng(0, "b"))
    torch.testing.assert_close(mixed.mean(0), x.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed.var(0), x.var(0), rtol=1e-4, atol=1e-4)
    assert float((torch.corrcoef(x.T).abs() - 1).abs().max()) < 1e-4
    assert float((torch.corrcoef(mixed.T) - torch.eye(3)).abs().max()) < 0.1


def test_the_target_is_what_is_read_unless_it_is_another() -> None:
    made = build(Config(d_in=4, d_sae=9, k=2))
    x = torch.randn(30, 4, generator=torch_rng(0, "x"))
    mixed, target = made.training_batch(x, x, torch_rng(0, "c"))
    assert mixed is target
    mixed, target = made.training_batch(x, x.clone(), torch_rng(0, "c"))
    assert not torch.equal(mixed, target)
    assert torch.equal(target.sort(dim=0).values, x.sort(dim=0).values)


def test_it_is_topk_trained_on_shuffled_batches() -> None:
    x = torch.randn(64, 4, generator=torch_rng(0, "x")) @ torch.randn(4, 4, generator=torch_rng(0, "m"))
    options = TrainConfig(n_tokens=640, batch_size=64, seed=5)
    control = Member("c", build(Config(d_in=4, d_sae=9, k=2), torch_rng(1, "i"), x), options, 1.0)
    plain = Member("p", build(TopkConfig(d_in=4, d_sae=9, k=2), torch_rng(1, "i"), x), options, 1.0)
    for t in range(4):
        mixed = shuffled(x, torch_rng(5, "batch", t))
        control.step(t, x, x)
        plain.step(t, mixed, mixed)
    for name, tensor in plain.dictionary.state_dict().items():
        assert torch.equal(control.dictionary.state_dict()[name], tensor), name
    torch.testing.assert_close(control.dictionary.encode(x), plain.dictionary.encode(x))
