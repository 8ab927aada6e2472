"""How well dictionaries recover the planted directions of worlds whose truth is known; the unit is a seed of the world.

Every configuration is trained once on each of several worlds, which differ in their seed only. A world is any object
with `directions` [n_true, d], `seed`, and `batch(i, n)` that gives x [n, d] and the true codes [n, n_true]. FVU, γ and
L0 are measured on the same rows, since explained variance does not rank recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from assay.core.errors import BadInput, BadOption
from assay.core.intervals import summarise
from assay.core.outcome import Arm, Cost, Metric, Results, Unit, Units
from assay.core.progress import progress
from assay.core.verdict import Comparison, compare
from assay.evaluation import checks, coding, tables
from assay.evaluation.entry import Entry
from assay.metrics import fidelity, shrinkage, sparsity
from assay.metrics.ratio import Mean, Ratio
from assay.metrics.recovery import Agreement, match

FIRST_BATCH = 1 << 30  # batches from here on are for evaluation; training begins at batch 0
BATCH_ROWS = 4096
SPLITS = ("validation", "test")
METRICS = (
    Metric(name="mcc", better="higher"),
    Metric(name="matched", better="higher"),
    Metric(name="uniqueness", better="higher"),
    Metric(name="f1", better="higher"),
    Metric(name="fvu", better="lower"),
    Metric(name="gamma", better="one"),
    Metric(name="l0", better="none"),
)
NOUNS = ("dictionaries on these worlds", "architectures")


@dataclass(frozen=True)
class Trial:
    """A dictionary and the world that it was trained on."""

    entry: Entry
    world: Any


def evaluate_recovery(
    trials: Sequence[Trial],
    *,
    study: str = "recovery",
    task: str = "planted",
    n_tokens: int = 32_768,
    seed: int = 0,
    alone: bool = False,
    resamples: int = 10_000,
    quiet: bool = False,
) -> Results:
    """MCC, share of pairs above .9 (`matched`), uniqueness, F1, FVU, γ and L0; intervals run over worlds.

    `n_tokens` rows are drawn for either split. MCC, matched and uniqueness depend on the directions alone and are the
    same on both. Raises `BadInput` for a width that does not fit, `BadOption` where nothing stands beside the methods.
    """
    roles = checks.arms([trial.entry for trial in trials])
    judging = checks.judged(roles, alone)
    if n_tokens < 2:
        raise BadOption(f"--n-tokens is {n_tokens}; at least 2 are needed.")
    units: list[Unit] = []
    costs: list[Cost] = []
    arms: list[Arm] = []
    with progress(len(trials), "recovery", "dictionaries", quiet=quiet) as bar:
        for trial in trials:
            entry, subject = trial.entry, checks.subject_of(trial.entry)
            measured = [_measure(trial, side * (-(-n_tokens // BATCH_ROWS)), n_tokens) for side in range(len(SPLITS))]
            num, den = measured[SPLITS.index("test")]["l0"]
            point = num / den or None
            for split, sums in zip(SPLITS, measured):
                for metric, (num, den) in sums.items():
                    units.append(
                        Unit(
                            study=study,
                            task=task,
                            arm=entry.arm,
                            metric=metric,
                            split=split,
                            seed=entry.seed,
                            point=point,
                            subject=subject,
                            unit_kind="seed",
                            unit=f"world {trial.world.seed}",
                            num=num,
                            den=den,
                            n_obs=n_tokens,
                        )
                    )
            costs.append(tables.recorded_cost(entry, subject))
            arms.append(tables.standing(entry, subject, point, costs[-1]))
            bar.advance()
    table = Units.from_records(units)
    found = (
        compare(table, arms, METRICS, costs, seed=seed, resamples=resamples, nouns=NOUNS) if judging else Comparison()
    )
    outcomes = summarise(table, arms, METRICS, seed=seed, resamples=resamples)
    return Results(units=table, outcomes=outcomes, costs=costs, verdicts=found.verdicts, notes=found.notes)


@torch.no_grad()
def _measure(trial: Trial, first: int, n_tokens: int) -> dict[str, tuple[float, float]]:
    """metric -> (numerator, denominator) on n_tokens rows of the dictionary's world, from batch FIRST_BATCH + first."""
    dictionary, world = trial.entry.dictionary, trial.world
    directions = getattr(dictionary, "W_dec", None)
    if directions is None or directions.shape[1] != world.directions.shape[1]:
        width = "no W_dec" if directions is None else f"directions of width {directions.shape[1]}"
        raise BadInput(
            f"A dictionary of arm {trial.entry.arm} has {width}, its world {world.directions.shape[1]}; "
            "recovery compares directions of one space."
        )
    matching = match(directions, world.directions)
    agreement = Agreement(matching)
    sums = {name: Ratio(1) for name in ("fvu", "gamma", "l0")}
    sizes = [min(BATCH_ROWS, n_tokens - start) for start in range(0, n_tokens, BATCH_ROWS)]
    mean = Mean()
    for i, n in enumerate(sizes):
        mean.add(world.batch(FIRST_BATCH + first + i, n)[0])
    for i, n in enumerate(sizes):
        x, true = world.batch(FIRST_BATCH + first + i, n)
        x = x.to(coding.device_of(dictionary, x.device))
        codes = coding.encode(dictionary, x)
        x_hat = coding.reconstruct(dictionary, x, codes)
        one = torch.zeros(n, dtype=torch.int64)
        sums["fvu"].add(one, fidelity.fvu_terms(x, x_hat, mean.value.to(x.device)))
        sums["gamma"].add(one, shrinkage.bias_terms(x, x_hat))
        sums["l0"].add(one, sparsity.l0_terms(codes.row, codes.value, n))
        agreement.add(codes.dense(), true)
    pairs = float(len(matching.cosine))
    return {
        "mcc": (float(matching.cosine.sum()), pairs),
        "matched": (matching.recovered() * pairs, pairs),
        "uniqueness": (matching.uniqueness * directions.shape[0], float(directions.shape[0])),
        "f1": (float(agreement.f1.sum()), pairs),
        **{name: (float(ratio.num.sum()), float(ratio.den.sum())) for name, ratio in sums.items()},
    }
