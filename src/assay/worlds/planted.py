"""Planted worlds: activations that are sparse sums of known directions, so that recovery has a true answer.

    x_b = Σ_i f_bi D_i + bias + noise ε_b            D [n_true, d] unit rows, f >= 0, ε ~ N(0, 1) per coordinate

Feature i fires iff its parent fires (roots have none) and  low_i <= u_{b, draw(i)} < high_i,  u uniform.
    roots            low 0, high p_i, u = Φ(√c â_i·z_b + √(1−c) ε_bi), z ~ N(0, I_rank): a Gaussian copula keeps p_i
    children         low 0, high p_i / p_parent, own u
    exclusive ones   siblings share one u and own neighbouring stretches of it: at most one fires
p_i = s · rank_i^−zipf, clamped to [p_min, p_max], then to the parent's p (divided by `branching` when exclusive); s is
found so that Σ p_i = l0. `frequencies` are therefore exact, and so is the mean L0.

Design after SynthSAEBench (arXiv 2602.14687), written from its description. Differs: frequencies stay exact under
hierarchy and correlation; there, children lose what their parents lack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.worlds.directions import directions_of, mean_max_overlap


@config
class Config:
    d: int = 64
    """Width of the activations."""
    n_true: int = 256
    """Number of true features."""
    l0: float = 8.0
    """Mean number of features that fire at once."""
    zipf: float = 0.5
    """Exponent of the frequencies' law over ranks; 0 makes all features equally frequent."""
    p_min: float = 5e-4
    """Lowest firing frequency."""
    p_max: float = 0.4
    """Highest firing frequency."""
    correlation: float = 0.0
    """Share of a root's firing score that comes from common low-rank causes, 0 to below 1."""
    correlation_rank: int = 8
    """Number of common causes."""
    n_trees: int = 0
    """Trees of features in which a child fires only with its parent; features outside trees are free roots."""
    branching: int = 4
    """Children of each parent."""
    depth: int = 1
    """Levels below the root of a tree."""
    exclusive: bool = True
    """At most one child of a parent fires at once."""
    scale_by_parent: bool = False
    """Multiply a child's magnitude by its parent's, relative to the parent's mean."""
    overlap: float | None = None
    """Mean over features of the largest |cosine| with another; None: random directions, 0: orthonormal ones."""
    magnitude: float = 1.0
    """Mean magnitude of the first feature (folded-normal: the mean before folding)."""
    magnitude_last: float | None = None
    """The same for the last feature, linear in between; None keeps it constant."""
    law: Literal["constant", "folded_normal", "exponential"] = "folded_normal"
    """How magnitudes vary from one firing to the next."""
    spread: float = 0.25
    """Standard deviation of the folded normal, relative to the mean."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on every coordinate."""
    bias: float = 0.0
    """Length of a constant vector added to every row."""

    def __post_init__(self) -> None:
        for name in ("d", "n_true", "correlation_rank", "branching", "depth"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("zipf", "noise", "bias", "spread", "n_trees"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 < self.p_max <= 1, "p_max", self.p_max, "above 0 and at most 1")
        require(0 < self.p_min <= self.p_max, "p_min", self.p_min, "above 0 and at most --p-max")
        require(0 <= self.correlation < 1, "correlation", self.correlation, "0 or more and below 1")
        require(self.magnitude > 0, "magnitude", self.magnitude, "above 0")
        require(
            self.magnitude_last is None or self.magnitude_last > 0, "magnitude_last", self.magnitude_last, "above 0"
        )
        require(self.overlap is None or 0 <= self.overlap < 1, "overlap", self.overlap, "0 or more and below 1")
        wanted = self.n_trees * self.tree_size
        require(
            wanted <= self.n_true,
            "n_trees",
            self.n_trees,
            f"small enough: its {wanted} nodes exceed {self.n_true} features",
        )
        require(0 < self.l0 < self.n_true, "l0", self.l0, "above 0 and below --n-true")

    @property
    def tree_size(self) -> int:
        return sum(self.branching**level for level in range(self.depth + 1))


class Batch(NamedTuple):
    x: Tensor  # [n, d]
    f: Tensor  # [n, n_true], 0 where a feature does not fire

    def sparse(self) -> tuple[Tensor, Tensor, Tensor]:
        """(row, latent, value) of every firing, rows in order."""
        row, latent = self.f.nonzero(as_tuple=True)
        return row, latent, self.f[row, latent]


class World:
    """One drawn world. Everything depends on (config, seed) alone; batch i and its size give one batch.

    directions [n_true, d], frequencies [n_true], magnitudes [n_true] (means), bias [d], parent [n_true] (−1: root).
    """

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self.seed = config, seed
        self.directions = directions_of(
            config.n_true, config.d, config.overlap, torch_rng(seed, "planted", "directions")
        )
        self.parent, level = _trees(config)
        self._levels = [(level == depth).nonzero().squeeze(1) for depth in range(1, int(level.max()) + 1)]
        ranks = _ranks(config, torch_rng(seed, "planted", "ranks"))
        self.frequencies = _frequencies(config, self.parent, level, ranks)
        self._draw, self._low, self._high = _stretches(config, self.parent, self.frequencies)
        last = config.magnitude if config.magnitude_last is None else config.magnitude_last
        self.magnitudes = torch.linspace(config.magnitude, last, config.n_true)
        bias = torch.randn(config.d, generator=torch_rng(seed, "planted", "bias"))
        self.bias = config.bias * bias / bias.norm()
        loading = torch.randn(
            config.n_true, config.correlation_rank, generator=torch_rng(seed, "planted", "correlation")
        )
        self._loading = loading / loading.norm(dim=1, keepdim=True)

    @property
    def overlap(self) -> float:
        """Mean over features of the largest |cosine| with another."""
        return mean_max_overlap(self.directions)

    def batch(self, i: int, n: int) -> Batch:
        """Batch number i of n rows, float32."""
        rng = torch_rng(self.seed, "planted", "batch", i)
        fires = self._fires(n, rng)
        f = fires * self._magnitudes_of(n, rng)
        if self.config.scale_by_parent:
            for nodes in self._levels:  # parents first, so that a scale reaches grandchildren
                parents = self.parent[nodes]
                f[:, nodes] *= f[:, parents] / self.magnitudes[parents]
        x = f @ self.directions + self.bias
        if self.config.noise:
            x = x + self.config.noise * torch.randn(n, self.config.d, generator=rng)
        return Batch(x, f)

    def chunks(self, n: int, n_chunks: int | None = None, *, first: int = 0) -> Iterator[Tensor]:
        """Yield x of batches first, first + 1, ...: n rows each, without end when `n_chunks` is None."""
        i = first
        while n_chunks is None or i < first + n_chunks:
            yield self.batch(i, n).x
            i += 1

    def _fires(self, n: int, rng: torch.Generator) -> Tensor:
        u = torch.rand(n, int(self._draw.max()) + 1, generator=rng, dtype=torch.float64)[:, self._draw]
        if c := self.config.correlation:
            roots = (self.parent < 0).nonzero().squeeze(1)
            causes = torch.randn(n, self.config.correlation_rank, generator=rng, dtype=torch.float64)
            own = torch.randn(n, len(roots), generator=rng, dtype=torch.float64)
            score = math.sqrt(c) * causes @ self._loading[roots].double().T + math.sqrt(1 - c) * own
            u[:, roots] = torch.special.ndtr(score)
        fires = (self._low <= u) & (u < self._high)
        for nodes in self._levels:
            fires[:, nodes] &= fires[:, self.parent[nodes]]
        return fires

    def _magnitudes_of(self, n: int, rng: torch.Generator) -> Tensor:
        mean = self.magnitudes.expand(n, -1)
        if self.config.law == "constant":
            return mean
        if self.config.law == "exponential":
            return mean * torch.empty(n, self.config.n_true).exponential_(generator=rng)
        return (mean * (1 + self.config.spread * torch.randn(n, self.config.n_true, generator=rng))).abs()


def _trees(config: Config) -> tuple[Tensor, Tensor]:
    """Parent and level of every feature. A tree's nodes are consecutive, breadth first; free roots come last."""
    parent, level = torch.full((config.n_true,), -1), torch.zeros(config.n_true, dtype=torch.long)
    for tree in range(config.n_trees):
        root = tree * config.tree_size
        for node in range(1, config.tree_size):
            parent[root + node] = root + (node - 1) // config.branching
            level[root + node] = level[parent[root + node]] + 1
    return parent, level


def _ranks(config: Config, rng: torch.Generator) -> Tensor:
    """Frequency rank 1..n_true of every feature: shuffled, but inside a tree parents come before children."""
    ranks = torch.randperm(config.n_true, generator=rng) + 1
    for tree in range(config.n_trees):
        nodes = slice(tree * config.tree_size, (tree + 1) * config.tree_size)
        ranks[nodes] = ranks[nodes].sort().values
    return ranks


def _frequencies(config: Config, parent: Tensor, level: Tensor, ranks: Tensor) -> Tensor:
    """p [n_true], float64, with Σ p = l0: the scale s is found by bisection, since Σ p grows with it."""
    shape = ranks.double() ** -config.zipf
    room = config.branching if config.exclusive else 1

    def at(scale: float) -> Tensor:
        p = (scale * shape).clamp(config.p_min, config.p_max)
        for depth in range(1, int(level.max()) + 1):
            nodes = level == depth
            p[nodes] = torch.minimum(p[nodes], p[parent[nodes]] / room)
        return p

    low, high = 0.0, config.p_max / float(shape.min())
    least, most = float(at(low).sum()), float(at(high).sum())
    if not least <= config.l0 <= most:
        raise BadOption(
            f"--l0 is {config.l0}; these frequencies and trees allow {least:.3g} to {most:.3g}. "
            "Change --l0, --p-min, --p-max, --n-true or --n-trees."
        )
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(at(middle).sum()) < config.l0 else (low, middle)
    return at(high)


def _stretches(config: Config, parent: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Column of u, and the stretch [low, high) of it in which a feature fires, given that its parent does."""
    draw, low, high = torch.arange(config.n_true), torch.zeros_like(p), p.clone()
    taken: dict[int, tuple[int, float]] = {}  # parent -> (column, end of the last stretch)
    for child in (parent >= 0).nonzero().squeeze(1).tolist():
        above = int(parent[child])
        share = float(p[child] / p[above])
        column, begin = taken.get(above, (child, 0.0)) if config.exclusive else (child, 0.0)
        draw[child], low[child], high[child] = column, begin, begin + share
        taken[above] = (column, begin + share)
    return draw, low, high
