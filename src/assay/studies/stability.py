"""stability: do two seeds, or two widths, of one architecture find the same directions?

agreement  of a seed: its living latents matched one to one (Hungarian, |cosine|) with those of every other seed; the mean over the pairs of
           latents, then over the other seeds. The unit is a seed, and a verdict needs five. Units share pairs of seeds, so the
           intervals are somewhat too narrow.
kept       of a seed: share of its living latents whose nearest direction in the wider dictionary of the same seed has |cosine| above .9.

Living is what fires on the test documents at all. The frozen random decoder shows the agreement of chance.

The claim is reproduced when archetypal beats the stronger of topk and relu on agreement at more than half of its verdicts and loses at
none; it is not reproduced when it loses or ties at half of them or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from assay.core.config import config, require
from assay.core.intervals import summarise
from assay.core.outcome import Metric, Results, Units
from assay.core.verdict import compare
from assay.evaluation import Entry, Evaluation, checks, tables
from assay.metrics.recovery import RECOVERED_ABOVE, match
from assay.studies.bench import RESULTS, Bench
from assay.studies.finding import Claim, Finding, Panel, claim_of, curve, pooled, seeds_of, won
from assay.studies.options import Sparsities
from assay.studies.recipes import BASELINE, Recipe, autoencoders, chosen, plans, values_of

QUESTION = "Do two seeds, or two widths, of one architecture find the same directions?"
CLAIM = "Dictionaries whose directions stay near mixtures of data points agree better between seeds than free ones."
SOURCE = "Fel et al. 2025, Archetypal SAE, arXiv 2502.12892 (read in its code)"
METHOD, BASELINES, CHANCE = "archetypal", ("topk", BASELINE), "random"
AGREEMENT, KEPT = "agreement", "kept"
METRICS = (Metric(name=AGREEMENT, better="higher"), Metric(name=KEPT, better="higher"))


@config
class Options(Sparsities):
    """Options of the study."""

    seeds: int = 5
    """Seeds of each dictionary; five or more give verdicts."""
    wider: float = 2.0
    """Width of the wide dictionaries, as a multiple of the others'."""
    k: tuple[int, ...] = (4, 8, 16)
    l1_coef: tuple[float, ...] = (1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seeds > 1, "seeds", self.seeds, "2 or more: agreement is between seeds")
        require(self.wider > 1, "wider", self.wider, "above 1")


def run(bench: Bench, options: Options) -> Finding:
    archs = list(dict.fromkeys([*BASELINES, *chosen(options, [*autoencoders(slow=False), METHOD])]))
    recipes = [Recipe(a, "baseline" if a in BASELINES else "method", a, values_of(a, options)) for a in archs]
    recipes.append(Recipe(CHANCE, "control", CHANCE, values_of(CHANCE, options)))
    entries = bench.train(plans(recipes, bench.width, options))
    wide = bench.train(
        plans([replace(r, width=options.wider) for r in recipes], bench.width, options), where="dictionaries-wide"
    )
    results = bench.measure(entries, language=False, more=lambda found: add(found, bench, options, entries, wide))
    return Finding(results, [RESULTS], claim_about(results), panels(results, archs))


def add(found: Evaluation, bench: Bench, options: Options, entries: Sequence[Entry], wide: Sequence[Entry]) -> None:
    """Units, outcomes and verdicts of both metrics; they depend on directions alone and are the same on both splits."""
    points = {
        o.subject: o.point
        for o in found.outcomes
        if o.metric == "l0" and o.split != "validation" and o.seed is not None
    }
    costs = {cost.id: cost for cost in found.costs}
    arms, units, directions = [], [], []
    for entry in entries:
        subject = checks.subject_of(entry)
        fires = living(found, entry.arm, subject)
        arm = tables.standing(entry, subject, points[subject], costs[tables.recorded_cost(entry, subject).id])
        arms.append(arm)
        directions.append((arm, entry.dictionary.W_dec[fires]))
    for (arm, own), broad in zip(directions, wide, strict=True):
        others = [
            W
            for other, W in directions
            if (other.name, other.label) == (arm.name, arm.label) and other.seed != arm.seed
        ]
        nearest = cosines(own, broad.dictionary.W_dec).amax(1) if len(own) else torch.zeros(0)
        sums = {
            AGREEMENT: (float(np.mean([match(own, W).mcc if len(own) and len(W) else 0.0 for W in others])), 1.0),
            KEPT: (float((nearest > RECOVERED_ABOVE).sum()), float(len(own))),
        }
        for split in ("validation", "test"):
            for metric, (num, den) in sums.items():
                units.append(
                    Units.of(
                        study=bench.name, task=found.run["task"], arm=arm.name, metric=metric, split=split, seed=arm.seed,
                        point=points[arm.subject], subject=arm.subject, unit_kind="seed", unit=[f"seed {arm.seed}"], num=[num],
                        den=[den], n_obs=[len(own)],
                    )
                )  # fmt: skip
    table = Units.concat(units)
    judged = compare(table, arms, METRICS, found.costs, seed=options.seed, resamples=options.resamples)
    found.units = Units.concat([found.units, table])
    found.outcomes += summarise(table, arms, METRICS, seed=options.seed, resamples=options.resamples)
    found.verdicts += judged.verdicts
    found.notes += judged.notes


def living(found: Evaluation, arm: str, subject: str) -> Tensor:
    """Indices of the latents that fired on the test documents."""
    columns = found.histogram.to_pydict()
    rows = zip(columns["arm"], columns["subject"], columns["latent"], columns["frequency"], strict=True)
    return torch.tensor([i for a, s, i, f in rows if (a, s) == (arm, subject) and f > 0], dtype=torch.int64)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """|cosine| of every row of a [n, d] with every row of b [m, d]: [n, m]."""
    first, second = (w / w.norm(dim=1, keepdim=True).clamp_min(1e-12) for w in (a, b))
    return (first @ second.t()).abs()


def claim_about(results: Results) -> Claim:
    verdicts = [v for v in results.verdicts if v.arm == METHOD and v.metric == AGREEMENT]
    return claim_of(
        [won(verdicts, f"{METHOD} against the stronger of {' and '.join(BASELINES)} on agreement")], seeds_of(verdicts)
    )


def panels(results: Results, archs: Sequence[str]) -> list[Panel]:
    found: list[Panel] = []
    for metric, title, said in (
        (AGREEMENT, "Agreement between seeds", f"Mean |cosine| of matched latents. {CHANCE} is chance."),
        (
            KEPT,
            "Kept in a wider dictionary",
            "Share of living latents with a near twin in the wider dictionary of the same seed.",
        ),
    ):
        lines = [curve(pooled(results, metric), arm) for arm in [*archs, CHANCE]]
        found.append(
            Panel(metric, title, "lines", "L0, active latents a token (log scale)", metric, lines, said, x_log=True)
        )
    return found
