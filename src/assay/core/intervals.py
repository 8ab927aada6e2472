"""Every value with its interval: from units to outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core.arms import Arm, Metric
from assay.core.cells import Block, blocks, declared
from assay.core.errors import BadInput, nearest
from assay.core.outcome import Outcome, Over, Units
from assay.core.randomness import numpy_rng
from assay.core.resampling import (
    FEWEST_FOR_BOOTSTRAP,
    FEWEST_UNITS,
    Floats,
    influence,
    interval,
    ratios,
    resampled_ratios,
    reseeded,
)

OVER: dict[str, Over] = {
    "document": "documents",
    "item": "documents",
    "task": "tasks",
    "seed": "seeds",
    "latent": "latents",
}


class Resampler:
    """The resamples of one block, shared by all that is computed on the same units: that is what pairs them."""

    def __init__(self, block: Block, seed: int, resamples: int) -> None:
        self.block = block
        self.seed = seed
        self.resamples = resamples
        self._drawn: dict[bytes, tuple[NDArray[np.int64], Floats]] = {}
        self._seed_weights: dict[int, Floats] = {}

    def seed_weights(self, n_seeds: int) -> Floats:
        if n_seeds not in self._seed_weights:
            self._seed_weights[n_seeds] = reseeded(n_seeds, self.resamples, self.rng("seeds"))
        return self._seed_weights[n_seeds]

    def rng(self, use: str) -> np.random.Generator:
        return numpy_rng(self.seed, use, self.block.study, self.block.task, self.block.split)

    def draws(self, mask: NDArray[np.bool_], columns: Sequence[int]) -> Floats | None:
        """Resampled values of some cells over the units in `mask` [resamples, columns]; None where t is used."""
        if mask.sum() < FEWEST_FOR_BOOTSTRAP:
            return None
        key = mask.tobytes()
        if key not in self._drawn:
            whole = np.flatnonzero(self.block.present[mask].all(axis=0))
            num, den = self.block.num[mask][:, whole], self.block.den[mask][:, whole]
            self._drawn[key] = whole, resampled_ratios(num, den, self.resamples, self.rng("bootstrap"))
        whole, values = self._drawn[key]
        return values[:, np.searchsorted(whole, columns)]


def known_metrics(found: Sequence[Block], metrics: Sequence[Metric]) -> dict[str, Metric]:
    """Metrics by name; raises when a block has a metric that was not declared."""
    known = {metric.name: metric for metric in metrics}
    for name in dict.fromkeys(block.metric for block in found):
        if name not in known:
            raise BadInput(f'Units hold metric "{name}", which no Metric declares.{nearest(name, known)}')
    return known


def summarise(
    units: Units,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    *,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
) -> list[Outcome]:
    """One outcome per subject, and where a configuration has several seeds one more pooled over them (`seed` None).

    A pooled value is the mean of the seeds' values. Its interval covers new seeds and new documents from three seeds on
    (`over` seeds+documents), with two only new documents. Metrics with `why_null` give null outcomes with that reason.
    """
    found = blocks(units, arms)
    known = known_metrics(found, metrics)
    subjects = declared(arms)
    outcomes: list[Outcome] = []
    for block in found:
        resampler = Resampler(block, seed, resamples)
        groups: dict[tuple[str, str], list[int]] = {}
        for column, cell in enumerate(block.cells):
            groups.setdefault((cell.arm, cell.label), []).append(column)
        for (name, label), columns in groups.items():
            mine = [arm for arm in arms if (arm.name, arm.label) == (name, label)]
            for column in columns:
                cell = block.cells[column]
                arm = subjects.get((name, cell.seed, cell.subject), mine[0])
                outcomes.append(_outcome(resampler, [column], arm, known[block.metric], level))
            if len(columns) > 1:
                outcomes.append(_outcome(resampler, columns, mine[0], known[block.metric], level))
    return outcomes + _null_outcomes(found, arms, metrics, level)


def _outcome(resampler: Resampler, columns: list[int], arm: Arm, metric: Metric, level: float) -> Outcome:
    block = resampler.block
    cells = [block.cells[column] for column in columns]
    mask, num, den = block.shared(columns)
    n = len(num)
    by_seed = block.unit_kind == "seed"
    pooled = len(columns) > 1 or by_seed
    values = ratios(num, den) if n else np.full(len(columns), np.nan)
    found = None
    why: str | None = None
    if not np.isfinite(values).all():
        why = "no unit is common to all seeds" if n == 0 else "the denominators sum to 0"
    else:
        effect = influence(num, den)
        found = interval(
            values, resampler.draws(mask, columns), effect, level=level, seed_weights=resampler.seed_weights
        )
        if n < FEWEST_UNITS:
            why = f"{n} {block.unit_kind}{'s' if n != 1 else ''}: no interval under {FEWEST_UNITS}"
        elif found is None:
            why = "no interval: in some resample the denominators sum to 0"
    over: Over = "none"
    if found is not None:
        over = "seeds+documents" if found.over_seeds else OVER[block.unit_kind]
    points = [cell.point for cell in cells if cell.point is not None]
    options: dict[str, Any] = {k: v for k, v in arm.options.items() if k != "seed"} if pooled else arm.options
    return Outcome(
        study=block.study,
        task=block.task,
        arm=arm.name,
        metric=metric.name,
        role=arm.role,
        better=metric.better,
        value=float(values.mean()) if np.isfinite(values).all() else None,
        why_null=why,
        lo=None if found is None else found.lo,
        hi=None if found is None else found.hi,
        level=level,
        over=over,
        how="none" if found is None else found.how,
        n_units=n,
        n_obs=int(block.n_obs[mask][:, columns].sum()),
        n_seeds=n if by_seed else len(columns),
        seed=None if pooled else cells[0].seed,
        split=block.split,
        point_name=arm.point_name,
        point=float(np.mean(points)) if points else None,
        subject=",".join(cell.subject for cell in cells),
        options=options,
        cost=arm.cost,
    )


def _null_outcomes(found: list[Block], arms: Sequence[Arm], metrics: Sequence[Metric], level: float) -> list[Outcome]:
    """One null outcome per subject, task and split for every metric that does not apply here."""
    measured = {(block.task, block.metric) for block in found}
    places = sorted({(block.study, block.task, block.split) for block in found})
    points = {(cell.arm, cell.seed, cell.subject): cell.point for block in found for cell in block.cells}
    return [
        Outcome(
            study=study,
            task=task,
            arm=arm.name,
            metric=metric.name,
            role=arm.role,
            better=metric.better,
            value=None,
            why_null=metric.why_null,
            lo=None,
            hi=None,
            level=level,
            over="none",
            how="none",
            n_units=0,
            n_obs=0,
            n_seeds=1,
            seed=arm.seed,
            split=split,
            point_name=arm.point_name,
            point=points.get((arm.name, arm.seed, arm.subject)),
            subject=arm.subject,
            options=arm.options,
            cost=arm.cost,
        )
        for metric in metrics
        if metric.why_null is not None
        for study, task, split in places
        if (task, metric.name) not in measured
        for arm in arms
    ]
