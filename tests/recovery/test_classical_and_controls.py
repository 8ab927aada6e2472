"""Each classical method and each pursuit finds the directions of a world that suits it; the controls do not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from assay.core.randomness import torch_rng
from assay.dictionaries import FIT, build, config_class
from assay.metrics.recovery import match
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.worlds.planted import Config, World

N_STEPS, BATCH = 400, 256


def share(arch: str, seed: int, x: torch.Tensor, directions: torch.Tensor, **options: Any) -> float:
    """Share of the planted directions whose matched row has |cosine| above 0.9, after fitting or training on x [n, d]."""
    made = build(config_class(arch)(d_in=x.shape[1], **options), torch_rng(seed, "init", arch), x)
    if made.learned_by == FIT:
        made.fit(x.split(1000), torch_rng(seed, "fit", arch))
    else:
        train = TrainConfig(n_tokens=N_STEPS * BATCH, batch_size=BATCH, lr=1e-2, seed=seed)
        member = Member(arch, made, train, variance=float(x.var(0).sum()))
        for t in range(N_STEPS):
            rows = x[torch.randint(len(x), (BATCH,), generator=torch_rng(seed, "rows", t))]
            member.step(t, rows, rows)
    matching = match(made.W_dec, directions)
    print(f"{arch} {options}, world {seed}: mcc {matching.mcc:.3f}, above .9 {matching.recovered():.2f}")
    return matching.recovered()


def superposed(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """More directions than dimensions: 32 in 24, 1.6 of them in a row, with an offset. x [16384, 24], directions [32, 24]."""
    world = World(Config(d=24, n_true=32, l0=1.6, zipf=0.0, noise=0.02, bias=1.0), seed)
    return torch.cat(list(world.chunks(2048, 8))), world.directions


def complete(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As many oblique directions as dimensions, independent and far from Gaussian: what ICA assumes."""
    world = World(Config(d=16, n_true=16, l0=2.0, zipf=0.0, law="exponential", noise=0.02, bias=1.0), seed)
    return torch.cat(list(world.chunks(2048, 8))), world.directions


def parts(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions with few entries, none negative: what NMF assumes. x [16384, 32] >= 0, directions [16, 32]."""
    world = World(Config(d=32, n_true=16, l0=1.6, zipf=0.0), seed)
    entries = torch.rand(16, 32, generator=torch_rng(seed, "entries"))
    directions = torch.nn.functional.normalize(entries * (torch.rand(16, 32, generator=torch_rng(seed, "on")) < 0.2))
    return torch.cat([world.batch(i, 2048).f @ directions for i in range(8)]), directions


@pytest.mark.parametrize(
    ("arch", "options"),
    [("topk", {"k": 2}), ("matching_pursuit", {"k": 2}), ("archetypal", {"k": 2}), ("sparse_coding", {"k": 2}), ("kmeans", {})],
)  # fmt: skip
def test_directions_in_superposition_are_found(arch, options) -> None:
    assert share(arch, 0, *superposed(0), d_sae=48, **options) >= 0.9


@pytest.mark.parametrize(
    ("arch", "most"), [("shuffled", 0.05), ("random", 0.05), ("frozen_encoder", 0.4), ("soft_frozen", 0.4)]
)
def test_controls_do_not_find_them(arch, most) -> None:
    """What is shuffled holds no direction at all; a frozen encoder or cone still lets a decoder row lean towards one."""
    assert share(arch, 0, *superposed(0), d_sae=48, k=2) <= most


@pytest.mark.parametrize("seed", [0, 1])
def test_ica_finds_independent_directions_that_pca_does_not(seed) -> None:
    assert share("ica", seed, *complete(seed), k=2) >= 0.9
    assert share("pca", seed, *complete(seed), k=2) <= 0.1


@pytest.mark.parametrize("shift", ["none", "split"])
def test_nmf_finds_most_parts_that_pca_does_not(shift) -> None:
    found = [share("nmf", seed, *parts(seed), d_sae=16, k=4, shift=shift) for seed in (0, 1, 2)]
    assert math.fsum(found) / 3 >= 0.7, "one pass over 16,384 rows"
    assert share("pca", 0, *parts(0), k=4) <= 0.1
