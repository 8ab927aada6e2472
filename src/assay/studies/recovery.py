"""recovery: planted worlds, where the true directions are known: who finds them, and does explained variance tell who does?

Every method is trained on each of several worlds that differ in their seed; the unit is a world, and a verdict needs five. Methods stand
against the strongest of relu and the classical methods at the same L0. Controls show what comes without learning directions.

The claim is about ranks: for each method the configuration nearest to the worlds' own L0 is taken (within a factor --at-most), and ρ is
Spearman's correlation over methods between explained variance and MCC; its interval resamples methods. Reproduced when the whole interval
lies below --ranks, not reproduced when it lies above. Controls are left out of ρ: they are bad at both, which proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from assay.activations import Stream, TensorSource
from assay.core.config import config, require, to_json
from assay.core.outcome import Outcome, Results
from assay.core.randomness import numpy_rng
from assay.dictionaries import FIT
from assay.evaluation import Trial, evaluate_recovery
from assay.studies.bench import RESULTS, Bench
from assay.studies.finding import Claim, Finding, Panel, Part, Series, Table, claim_of, curve, pooled
from assay.studies.options import Sparsities
from assay.studies.recipes import BASELINE, Recipe, autoencoders, chosen, plans, role_of, values_of
from assay.worlds import planted

QUESTION = "Which methods find the directions that made the data, and does explained variance tell which do?"
CLAIM = "Explained variance does not rank recovery: the dictionary that explains most is not the one that finds most."
SOURCE = "SynthSAEBench, arXiv 2602.14687, table at L0 25 (by its description); frozen controls: arXiv 2602.14111"
ROWS = 4096  # of a world, drawn at once
FEWEST_METHODS = 5
RESAMPLES = 10_000
NEEDED: dict[str, dict[str, Any]] = {"nmf": {"shift": "split"}, "kmeans": {"codes": "triangle"}}
"""Options without which a classical method cannot read signed data at a chosen sparsity."""


@config
class Options(Sparsities):
    """Options of the study. There is no model: --model, --site and --text do not apply."""

    size: Literal["laptop", "synthsaebench"] = "laptop"
    """laptop: d 64, 256 features, 4 trees, L0 8; synthsaebench: d 768, 16,384 features, 128 trees, L0 34 (hours on a GPU)."""
    n_true: int | None = None
    """Number of true features: superposition is this over d; the size's own when not given."""
    d: int | None = None
    """Width of the activations; the size's own when not given."""
    l0: float | None = None
    """Mean number of features that fire at once; the size's own when not given."""
    correlation: float = 0.1
    """Share of a feature's firing that comes from common causes; 0 for none."""
    n_trees: int | None = None
    """Trees of features in which a child fires only with its parent; the size's own when not given, 0 for no hierarchy."""
    seeds: int = 5
    """Worlds; five or more give verdicts."""
    n_tokens: int = 150_000
    """Rows that each dictionary is trained on."""
    fit_tokens: int = 20_000
    """Rows that each classical method is fitted on."""
    eval_tokens: int = 16_384
    """Rows of either split that are measured."""
    k: tuple[int, ...] = (4, 8, 16)
    l1_coef: tuple[float, ...] = (1.0, 2.0, 4.0)
    lp_coef: tuple[float, ...] = (1.0, 2.0, 4.0)
    l0_coef: tuple[float, ...] = (0.25, 1.0, 4.0)
    ranks: float = 0.8
    """Spearman's ρ from which explained variance would be said to rank recovery."""
    at_most: float = 1.6
    """How many times the worlds' L0, or how small a part of it, a configuration may have to enter ρ."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.ranks < 1, "ranks", self.ranks, "between 0 and 1")
        require(self.at_most > 1, "at_most", self.at_most, "above 1")
        require(self.fit_tokens >= self.batch_size, "fit_tokens", self.fit_tokens, "at least one batch (--batch-size)")
        require(self.eval_tokens >= 2, "eval_tokens", self.eval_tokens, "2 or more")


def world_config(options: Options) -> planted.Config:
    """The worlds: SynthSAEBench's, or the same in small, with what the options change."""
    shared: dict[str, Any] = {
        "correlation": options.correlation, "scale_by_parent": True, "magnitude": 5.0, "magnitude_last": 4.0, "bias": 0.5,
    }  # fmt: skip
    sized: dict[str, Any] = (
        {"d": 64, "n_true": 256, "l0": 8.0, "n_trees": 4, "depth": 2, "correlation_rank": 4}
        if options.size == "laptop"
        else {
            "d": 768,
            "n_true": 16_384,
            "l0": 34.0,
            "n_trees": 128,
            "depth": 3,
            "correlation_rank": 25,
            "overlap": 0.15,
        }
    )
    given = {name: v for name in ("d", "n_true", "l0", "n_trees") if (v := getattr(options, name)) is not None}
    return planted.Config(**(shared | sized | given))


class WorldSource(TensorSource):
    """The first n rows of a world as a source of training rows, drawn when they are asked for: batch i holds rows 4096 i onwards."""

    in_memory = False

    def __init__(self, world: planted.World, n: int) -> None:
        super().__init__(world.batch(0, 1).x.expand(n, -1))  # for the table of rows alone
        self.world = world

    def fetch(self, rows: np.ndarray, sites: Sequence[str]) -> dict[str, Tensor]:
        parts = [self.world.batch(int(i), ROWS).x[rows[rows // ROWS == i] - i * ROWS] for i in np.unique(rows // ROWS)]
        return {site: torch.cat(parts) for site in sites}

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "planted",
            "world": to_json(self.world.config),
            "seed": self.world.seed,
            "n_rows": self.table.n_rows,
        }


@dataclass(frozen=True)
class Learned:
    """What is trained by gradients and what is fitted."""

    trained: list[Recipe]
    fitted: list[Recipe]


def arms(options: Options) -> Learned:
    """Every learned and classical method and every control; --archs narrows the learned ones."""
    learned = list(dict.fromkeys([BASELINE, *chosen(options, autoencoders())]))
    controls = autoencoders(controls=True)
    fitted = [*autoencoders(FIT), *autoencoders(FIT, controls=True)]

    def recipes(archs: Sequence[str]) -> list[Recipe]:
        return [Recipe(a, role_of(a), a, values_of(a, options) | NEEDED.get(a, {})) for a in archs]

    return Learned(recipes([*learned, *controls]), recipes(fitted))


def run(bench: Bench, options: Options) -> Finding:
    world_of, wanted = world_config(options), arms(options)
    sized = replace(options, d_sae=options.d_sae or max(2, world_of.n_true // (2 if options.size == "laptop" else 4)))
    trials: list[Trial] = []
    for seed in range(options.seed, options.seed + options.seeds):
        world = planted.World(world_of, seed)
        for recipes, tokens, where in (
            (wanted.trained, options.n_tokens, ""),
            (wanted.fitted, options.fit_tokens, "-fitted"),
        ):
            stream = Stream(WorldSource(world, tokens), seed=seed, batch_size=options.batch_size, split=None)
            made = plans(recipes, world_of.d, replace(sized, seed=seed), seeds=[seed], n_tokens=tokens)
            entries = bench.train(
                made, where=f"dictionaries-{seed}{where}", stream=stream, site="x", facts={"world": seed}
            )
            trials += [Trial(replace(entry, seed=seed), world) for entry in entries]
    if bench.has(RESULTS):
        results = Results.load(bench.out / RESULTS)
    else:
        results = bench.keep(
            evaluate_recovery(
                trials, study=bench.name, task=f"planted {options.size}", n_tokens=options.eval_tokens, seed=options.seed,
                resamples=options.resamples, quiet=bench.quiet,
            )
        )  # fmt: skip
    near = nearest_l0(results, world_of.l0, options.at_most)
    rho = correlation(near, seed=options.seed)
    return Finding(
        results, [RESULTS], claim_about(near, rho, options), panels(results, world_of.l0), [table(results, world_of.l0)]
    )


def value_at(results: Results, metric: str) -> dict[tuple[str, float], float]:
    """(arm, L0) -> value on the test split."""
    return {(o.arm, o.point or 0.0): o.value for o in pooled(results, metric) if o.value is not None}


def nearest_l0(results: Results, l0: float, at_most: float) -> dict[str, dict[str, float]]:
    """For each arm but controls, its metrics at the configuration nearest to `l0`, where one lies within the factor."""
    roles = {o.arm: o.role for o in results.outcomes}
    values = {metric: value_at(results, metric) for metric in ("mcc", "f1", "fvu", "matched")}
    found: dict[str, dict[str, float]] = {}
    for arm in (arm for arm, role in roles.items() if role in ("method", "baseline")):
        points = [point for name, point in values["mcc"] if name == arm and point > 0]
        best = min(points, key=lambda p: abs(math.log(p / l0)), default=None)
        if best is not None and abs(math.log(best / l0)) <= math.log(at_most):
            found[arm] = {"l0": best, **{metric: at[arm, best] for metric, at in values.items()}}
    return found


@dataclass(frozen=True)
class Correlation:
    rho: float
    lo: float
    hi: float


def correlation(
    near: dict[str, dict[str, float]], against: str = "mcc", *, seed: int = 0, level: float = 0.95
) -> Correlation | None:
    """Spearman's ρ over methods between explained variance (−FVU) and a metric of recovery; percentiles over methods drawn anew.

    None with fewer than five methods. Draws of a single distinct value have no ρ and are left out.
    """
    if len(near) < FEWEST_METHODS:
        return None
    explained = np.array([-values["fvu"] for values in near.values()])
    found = np.array([values[against] for values in near.values()])
    rng, n = numpy_rng(seed, "methods", against), len(near)
    pick = rng.integers(0, n, (RESAMPLES, n))
    drawn = spearman(explained[pick], found[pick])
    lo, hi = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Correlation(float(spearman(explained[None], found[None])[0]), float(lo), float(hi))


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each pair of rows of a and b [m, n], ties at their mean rank: [m]; nan where a row is constant."""
    ranks = [rankdata(values, axis=1) for values in (a, b)]
    first, second = (r - r.mean(1, keepdims=True) for r in ranks)
    spread = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.divide((first * second).sum(1), spread, out=np.full(len(a), np.nan), where=spread > 0)


def claim_about(near: dict[str, dict[str, float]], rho: Correlation | None, options: Options) -> Claim:
    """The claim from ρ and its interval."""
    if rho is None:
        said = f"{len(near)} methods lie near the worlds' L0 (within a factor {options.at_most:g}); ρ needs {FEWEST_METHODS}"
        return claim_of([Part(said, None)], options.seeds)
    explains, finds = min(near, key=lambda a: near[a]["fvu"]), max(near, key=lambda a: near[a]["mcc"])
    said = (
        f"over {len(near)} methods Spearman's ρ between explained variance and MCC is {rho.rho:.2f} [{rho.lo:.2f}, {rho.hi:.2f}] "
        f"(ranking would be {options.ranks:g} or more); most is explained by {explains}, most is found by {finds}"
    )
    return claim_of(
        [Part(said, True if rho.hi < options.ranks else False if rho.lo > options.ranks else None)], options.seeds
    )


def panels(results: Results, l0: float) -> list[Panel]:
    """MCC against L0, and MCC against FVU."""
    outcomes = pooled(results, "mcc")
    order = list(dict.fromkeys(o.arm for o in sorted(outcomes, key=_role)))
    fvu = value_at(results, "fvu")
    both = [(o, fvu[o.arm, o.point or 0.0], o.value) for o in outcomes if o.value is not None]
    clouds = [
        Series(arm, [x for o, x, _ in both if o.arm == arm], [y for o, _, y in both if o.arm == arm]) for arm in order
    ]
    return [
        Panel(
            "mcc", "MCC against L0", "lines", "L0, active latents a row (log scale)", "MCC",
            [curve(outcomes, arm) for arm in order], f"The worlds' own L0 is {l0:g}. Intervals over worlds.", x_log=True,
        ),
        Panel("variance", "Recovery against explained variance", "points", "FVU", "MCC", clouds, "Left explains more."),
    ]  # fmt: skip


def _role(outcome: Outcome) -> int:
    return ("method", "baseline", "control", "floor").index(outcome.role)


def table(results: Results, l0: float) -> Table:
    """Every arm, controls too, at its configuration nearest to the worlds' L0."""
    names = ("mcc", "matched", "uniqueness", "f1", "fvu", "gamma")
    values = {metric: value_at(results, metric) for metric in names}
    roles = {o.arm: o for o in sorted(results.outcomes, key=_role)}
    rows: list[list[str]] = []
    for arm, outcome in roles.items():
        points = [point for name, point in values["mcc"] if name == arm and point > 0]
        if points:
            at = min(points, key=lambda p: abs(math.log(p / l0)))
            numbers = [values[m].get((arm, at)) for m in names]
            rows.append([arm, outcome.role, f"{at:.3g}", *("" if v is None else f"{v:.3f}" for v in numbers)])
    head = ["arm", "role", "L0", "MCC", "above 0.9", "uniqueness", "F1", "FVU", "γ"]
    return Table(f"Each arm at its configuration nearest to L0 {l0:g}, means over worlds", head, rows)
