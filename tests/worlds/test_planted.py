"""Planted worlds keep their word: frequencies, hierarchy, correlation, overlap, magnitudes, and x itself."""

from __future__ import annotations

import math

import pytest
import torch

from assay.core.errors import BadOption
from assay.worlds.planted import Config, World

TREES = dict(d=32, n_true=96, l0=6.0, n_trees=6, branching=3, depth=2)


def drawn(config: Config, n: int = 20_000, seed: int = 3) -> tuple[World, torch.Tensor, torch.Tensor]:
    world = World(config, seed)
    x, f = world.batch(0, n)
    return world, x, f


@pytest.mark.parametrize(
    "options",
    [
        dict(zipf=0.5),
        dict(zipf=1.0, l0=4.0),
        dict(correlation=0.6, correlation_rank=2),
        TREES,
        dict(TREES, exclusive=False, correlation=0.5),
    ],
    ids=["zipf", "steep", "correlated", "trees", "trees, siblings together, correlated roots"],
)
def test_frequencies_and_mean_l0_are_the_configured_ones(options: dict) -> None:
    world, _, f = drawn(Config(**options))
    p, seen = world.frequencies, (f > 0).double().mean(0)
    error = (seen - p) / (p * (1 - p) / len(f)).sqrt()
    assert float(p.sum()) == pytest.approx(world.config.l0, rel=1e-9)
    assert error.abs().max() < 5, "a feature's frequency is off by more than five standard errors"
    assert (f > 0).sum(1).double().mean() == pytest.approx(world.config.l0, rel=0.03)


@pytest.mark.parametrize("trees", [{}, dict(n_trees=12, branching=3, depth=2, exclusive=False)], ids=["free", "trees"])
def test_frequencies_follow_zipf_between_their_bounds(trees: dict) -> None:
    """Also with trees: parents take the commoner ranks, so that no child is held down by a rare parent."""
    config = Config(n_true=200, l0=3.0, zipf=0.8, p_min=1e-6, **trees)
    p = World(config, 0).frequencies.sort(descending=True).values
    rank = torch.arange(1, 201, dtype=torch.float64)
    slope = torch.diff(p.log()) / torch.diff(rank.log())
    assert torch.allclose(slope, torch.full_like(slope, -0.8), atol=1e-6)


def test_a_child_fires_only_with_its_parent() -> None:
    world, _, f = drawn(Config(**TREES, law="constant"))
    children = (world.parent >= 0).nonzero().squeeze(1)
    assert len(children) == 6 * (3 + 9)
    fires = f > 0
    assert fires[:, children].any()
    assert not (fires[:, children] & ~fires[:, world.parent[children]]).any()


def test_exclusive_siblings_never_fire_together_and_others_do() -> None:
    for exclusive in (True, False):
        world, _, f = drawn(Config(**TREES, exclusive=exclusive))
        together = 0
        fires = f > 0
        for parent in world.parent[world.parent >= 0].unique():
            siblings = (world.parent == parent).nonzero().squeeze(1)
            together += int((fires[:, siblings].sum(1) > 1).sum())
        assert (together == 0) == exclusive


def test_correlation_is_the_common_causes_and_none_when_off() -> None:
    def phi(config: Config) -> tuple[torch.Tensor, torch.Tensor]:
        world, _, f = drawn(config)
        pairs = torch.triu(torch.ones(20, 20, dtype=torch.bool), 1)
        loading = world._loading[:20]
        return torch.corrcoef((f[:, :20] > 0).double().T)[pairs], (loading @ loading.T)[pairs]

    base = Config(n_true=20, l0=5.0, correlation_rank=2)
    off, _ = phi(base)
    on, expected = phi(Config(n_true=20, l0=5.0, correlation_rank=2, correlation=0.7))
    assert off.abs().max() < 5 / math.sqrt(20_000)
    assert torch.corrcoef(torch.stack([on, expected.double()]))[0, 1] > 0.95


def test_x_is_the_codes_times_the_directions_plus_the_bias() -> None:
    config = Config(**TREES, bias=0.7, magnitude=3.0, magnitude_last=1.0)
    world, x, _ = drawn(config, n=500)
    row, latent, value = world.batch(0, 500).sparse()
    rebuilt = world.bias.expand(500, -1).double().clone()
    for r, i, v in zip(row.tolist(), latent.tolist(), value.tolist()):
        rebuilt[r] += v * world.directions[i].double()
    assert torch.allclose(x.double(), rebuilt, atol=1e-5)
    assert world.bias.norm() == pytest.approx(0.7, rel=1e-5)


def test_noise_has_its_standard_deviation() -> None:
    world, x, f = drawn(Config(noise=0.3, bias=0.5), n=5000)
    rest = x - f @ world.directions - world.bias
    assert rest.std() == pytest.approx(0.3, rel=0.02)


def test_the_same_seed_gives_the_same_stream_in_any_order() -> None:
    config = Config(**TREES, noise=0.1, correlation=0.2)
    one, two = World(config, 5), World(config, 5)
    later = two.batch(2, 64)
    assert torch.equal(one.directions, two.directions)
    assert [torch.equal(a, b) for a, b in zip(one.chunks(64, 3), two.chunks(64, 3))] == [True] * 3
    assert torch.equal(next(one.chunks(64, 1, first=2)), later.x)
    assert not torch.equal(one.batch(0, 64).x, one.batch(1, 64).x)
    assert not torch.equal(one.directions, World(config, 6).directions)


def test_overlap_is_the_chosen_one() -> None:
    free = World(Config(), 0).overlap
    for wanted in (0.25, 0.6):
        assert abs(free - wanted) > 0.05
        world = World(Config(overlap=wanted), 0)
        assert world.overlap == pytest.approx(wanted, abs=0.02)
        assert torch.allclose(world.directions.norm(dim=1), torch.ones(256), atol=1e-5)
    square = World(Config(d=40, n_true=30, l0=3.0, overlap=0), 0).directions
    assert torch.allclose(square @ square.T, torch.eye(30), atol=1e-6)


@pytest.mark.parametrize(
    ("law", "mean", "deviation"),
    [("constant", 2.0, 0.0), ("exponential", 2.0, 2.0), ("folded_normal", 2.0, 0.5)],
)
def test_magnitudes_follow_their_law(law: str, mean: float, deviation: float) -> None:
    _, _, f = drawn(Config(n_true=20, l0=5.0, magnitude=2.0, law=law, spread=0.25))
    firing = f[f > 0]
    assert firing.mean() == pytest.approx(mean, rel=0.01)
    assert firing.std() == pytest.approx(deviation, rel=0.02, abs=1e-5)


def test_magnitudes_run_linearly_across_features() -> None:
    world, _, f = drawn(Config(n_true=21, l0=5.0, magnitude=5.0, magnitude_last=4.0, law="constant"))
    assert f.amax(0).tolist() == pytest.approx(torch.linspace(5, 4, 21).tolist())
    assert world.magnitudes[10] == pytest.approx(4.5)


def test_a_child_is_scaled_by_its_parent_down_to_grandchildren() -> None:
    options = dict(TREES, magnitude=3.0, magnitude_last=2.0, spread=0.5)
    plain = drawn(Config(**options), n=2000)[2].double()
    world, _, scaled = drawn(Config(**options, scale_by_parent=True), n=2000)
    mean = world.magnitudes.double()
    grandchild = int((world.parent[world.parent.clamp_min(0)] >= 0).nonzero()[0])
    child = int(world.parent[grandchild])
    root = int(world.parent[child])
    on = (plain > 0)[:, grandchild]
    expected = plain[:, grandchild] * plain[:, child] / mean[child] * plain[:, root] / mean[root]
    assert on.sum() > 5
    assert torch.allclose(scaled[on, grandchild].double(), expected[on], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(l0=300.0), "--l0"),
        (dict(l0=200.0), "allow"),
        (dict(overlap=0.0), "orthonormal"),
        (dict(d=4, overlap=0.05), "no nearer than"),
        (dict(n_trees=100), "--n-trees"),
        (dict(zipff=1.0), 'Did you mean "zipf"'),
        (dict(noise=math.nan), "finite"),
        (dict(correlation=1.0), "--correlation"),
    ],
)
def test_impossible_worlds_are_refused_in_one_sentence(options: dict, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        World(Config(**options), 0)
