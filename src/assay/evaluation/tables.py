"""From sums to the tables of core: units with their points, costs, arms, and the outcomes that no resampling gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from assay.core.config import to_json
from assay.core.outcome import Arm, Cost, Outcome, Units
from assay.evaluation import checks
from assay.evaluation.entry import Entry
from assay.evaluation.measurement import Measurement
from assay.evaluation.readings import TEST, VALIDATION, Readings
from assay.metrics.sparsity import DENSE_ABOVE

NO_INTERVAL = (
    "A count over all latents on all N tokens of the split: it is exact for this dictionary on this text, and which "
    "latents never fire does not average over documents."
)


def point_of(measurement: Measurement, readings: Readings) -> float | None:
    """The measured L0 of the test split; None for a dictionary that has no code (a constant)."""
    return measurement.ratio("l0").value(readings.members(TEST)) or None


def options_of(entry: Entry) -> dict[str, Any]:
    """What the entry says, else the dictionary's own options."""
    if entry.options:
        return dict(entry.options)
    config = getattr(entry.dictionary, "config", None)
    return to_json(config) if dataclasses.is_dataclass(config) else {}


def units(measurements: Sequence[Measurement], readings: Readings, study: str, task: str) -> Units:
    """One row a document, metric and dictionary, of both splits; none for a document without a counted target."""
    parts: list[Units] = []
    for m in measurements:
        point = point_of(m, readings)
        for metric, ratio in m.ratios.items():
            for side in (VALIDATION, TEST):
                index = readings.members(side)
                index = index[ratio.n_obs.numpy()[index] > 0]
                if not len(index):
                    continue
                parts.append(
                    Units.of(
                        study=study,
                        task=task,
                        arm=m.entry.arm,
                        metric=metric,
                        split=readings.rule.names[side],
                        seed=m.entry.seed,
                        point=point,
                        subject=m.subject,
                        unit=[readings.table.documents[i] for i in index],
                        num=ratio.num.numpy()[index],
                        den=ratio.den.numpy()[index],
                        n_obs=ratio.n_obs.numpy()[index],
                    )
                )
    return Units.concat(parts)


def standing(entry: Entry, subject: str, point: float | None, spent: Cost) -> Arm:
    """The entry as an arm of the study. Without options of its own its subject tells it from others of its arm."""
    options = options_of(entry)
    return Arm(
        name=entry.arm,
        role=entry.role,  # pyright: ignore[reportArgumentType]  # checked in `checks.arms`
        cost=spent.id,
        subject=subject,
        seed=entry.seed,
        point_name=None if point is None else "l0",
        options=options,
        label="" if options else subject,
    )


def recorded_cost(entry: Entry, subject: str) -> Cost:
    """What it cost to make, as the entry or the dictionary's provenance says."""
    if entry.cost is not None:
        return entry.cost
    known = checks.provenance(entry.dictionary).get("cost")
    names = {f.name for f in dataclasses.fields(Cost)}
    plain: dict[str, Any] = {k: v for k, v in known.items() if k in names} if isinstance(known, Mapping) else {}
    if "includes" in plain:
        plain["includes"] = tuple(plain["includes"])
    own: dict[str, Any] = {"id": f"{entry.arm}-{subject}", "access": "activations"}
    return Cost(**(own | plain))


def shared_costs(entries: Sequence[Entry], costs: Sequence[Cost]) -> list[Cost]:
    """The costs that others include, such as the harvest of a sweep: each once."""
    known = {c.id for c in costs}
    found: dict[str, Cost] = {}
    for entry in entries:
        held = checks.provenance(entry.dictionary).get("harvest_cost")
        if isinstance(held, Mapping) and held["id"] not in known:
            found[str(held["id"])] = Cost(**held)
    return list(found.values())


def cost(measurement: Measurement, readings: Readings) -> Cost:
    """What it cost to make, as recorded, and what encoding one document of this text costs, as measured."""
    entry = measurement.entry
    recorded = recorded_cost(entry, measurement.subject)
    n = max(len(readings.chosen), 1)
    path = getattr(entry.dictionary, "path", None)
    weights = Path(path) / checks.WEIGHTS if path is not None else None
    return dataclasses.replace(
        recorded,
        marginal_per="document",
        marginal_seconds=measurement.encode_seconds / n,
        marginal_tokens=round(measurement.n_tokens / n),
        disk_bytes=weights.stat().st_size if weights is not None and weights.is_file() else recorded.disk_bytes,
        n_threads=torch.get_num_threads(),
    )


def shares(measurement: Measurement, readings: Readings, study: str, task: str, arm: Arm) -> list[Outcome]:
    """Dead and dense shares on both splits; `n_units` latents, `n_obs` tokens."""
    if measurement.firing is None:
        return []
    found: list[Outcome] = []
    for side in (VALIDATION, TEST):
        firing = measurement.firing[side]
        values = {"dead": firing.dead_share()}
        values |= {f"dense_{100 * above:.0f}": firing.dense_share(above) for above in DENSE_ABOVE}
        for metric, value in values.items():
            found.append(
                Outcome(
                    study=study,
                    task=task,
                    arm=arm.name,
                    metric=metric,
                    role=arm.role,
                    better="lower" if metric == "dead" else "none",
                    value=value,
                    why_null=NO_INTERVAL.replace("N tokens", f"{firing.n_tokens:,} tokens"),
                    lo=None,
                    hi=None,
                    over="none",
                    how="none",
                    n_units=len(firing.counts),
                    n_obs=firing.n_tokens,
                    n_seeds=1,
                    seed=arm.seed,
                    split=readings.rule.names[side],
                    point_name=arm.point_name,
                    point=point_of(measurement, readings),
                    subject=measurement.subject,
                    options=dict(arm.options),
                    cost=arm.cost,
                )
            )
    return found


def described(measurement: Measurement, readings: Readings, spent: Cost) -> dict[str, Any]:
    """One line of `run.json` about a dictionary."""
    entry = measurement.entry
    config = getattr(entry.dictionary, "config", None)
    arch = getattr(entry.dictionary, "arch", None) or getattr(config, "arch", None)
    path = getattr(entry.dictionary, "path", None)
    return {
        "subject": measurement.subject,
        "arm": entry.arm,
        "role": entry.role,
        "arch": str(arch) if arch else type(entry.dictionary).__name__,
        "seed": entry.seed,
        "point": point_of(measurement, readings),
        "d_in": readings.width,
        "d_sae": None if measurement.firing is None else len(measurement.firing[TEST].counts),
        "options": options_of(entry),
        "trained_on_known": checks.trained_on(entry) is not None,
        "cost_id": spent.id,
        "path": None if path is None else Path(path).name,
    }
