"""Recovery on a planted world: the truth itself, a part of it, and noise; one configuration over several worlds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.evaluation import Entry, Trial, evaluate_recovery

N_TRUE, D = 6, 8


class World:
    """Orthonormal directions; each fires on 30 % of rows with magnitude 1 to 2, signs plus only."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        basis = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(seed))).Q
        self.directions = basis[:N_TRUE]

    def batch(self, i: int, n: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(1000 * self.seed + i % 997)
        codes = (torch.rand(n, N_TRUE, generator=rng) < 0.3) * (1 + torch.rand(n, N_TRUE, generator=rng))
        return codes @ self.directions, codes


class Projection:
    """f = x D^T where it exceeds .5, x_hat = f D."""

    def __init__(self, directions: Tensor, **config: Any) -> None:
        self.W_dec, self.config = directions, SimpleNamespace(d_in=D, d_sae=len(directions), **config)

    def encode(self, x: Tensor) -> Tensor:
        u = x @ self.W_dec.T
        return torch.where(u.abs() > 0.5, u, 0.0)

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W_dec


def trials() -> list[Trial]:
    found: list[Trial] = []
    for seed in range(6):
        world = World(seed)
        noise = torch.randn(N_TRUE, D, generator=torch.Generator().manual_seed(seed + 50))
        noise = noise / noise.norm(dim=1, keepdim=True)
        for arm, role, rows in (
            ("truth", "method", -world.directions),
            ("half", "baseline", world.directions[:3]),
            ("noise", "floor", noise),
        ):
            found.append(Trial(Entry(arm, role, Projection(rows), seed=seed, options={"arm": arm}), world))
    return found


def test_the_truth_a_part_of_it_and_noise() -> None:
    result = evaluate_recovery(trials(), n_tokens=1000, resamples=200, quiet=True)
    got = {(o.arm, o.metric): o for o in result.outcomes if o.split == "test"}
    for metric in ("mcc", "matched", "uniqueness", "f1"):
        assert got["truth", metric].value == pytest.approx(1, abs=1e-6)
        assert got["half", metric].value == pytest.approx(1, abs=1e-6)  # min(d_sae, n_true) pairs: all it has is right
        assert got["noise", metric].value < 0.9
        assert got["truth", metric].over == "seeds"
        assert got["truth", metric].n_units == 6
    assert got["truth", "fvu"].value == pytest.approx(0, abs=1e-9)
    power, mean = 0.3 * 7 / 3, 0.3 * 1.5  # of one code: magnitude uniform in 1 to 2, present on 30 %
    assert got["half", "fvu"].value == pytest.approx(3 * power / (6 * (power - mean**2)), rel=0.03)
    assert got["truth", "l0"].value == pytest.approx(0.3 * N_TRUE, rel=0.1)


def test_directions_of_another_width_are_refused() -> None:
    world = World(0)
    entry = Entry("a", "control", Projection(torch.eye(5)))
    with pytest.raises(BadInput, match="width 5, its world 8"):
        evaluate_recovery([Trial(entry, world)], quiet=True)
