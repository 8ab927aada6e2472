"""From finished tasks to what a page shows: tables of core, and probing.json with the per-task table, wins, honesty and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import artefact
from assay.core.arms import SEEDLESS, Arm, Metric
from assay.core.intervals import summarise
from assay.core.outcome import FILES, Cost, Outcome, Results, Units
from assay.probing import audit, first, honesty, pool, scan, words
from assay.probing.facts import facts
from assay.probing.measure import MAX, Cell
from assay.probing.regimes import POINT_NAME
from assay.probing.results import STUDY, ArmFacts, Tables, results
from assay.probing.run import Record, Run

FILE, RESULTS, SCHEMA = "probing.json", "results", 1
CLEAR = 0.005  # a win by more than this
WINS = (("win", 0.0), ("clear_win", CLEAR), ("clear_loss", -CLEAR))


def finish(run: Run) -> Path:
    """Run what is missing, write OUT/results, and return that folder."""
    folder = run.out / RESULTS
    if run.options.scan is not None:
        scan.refuse(run)
    records = run.records()
    if (folder / FILES["outcomes"]).exists():
        return folder
    cells = [cell for record in records for cell in record.cells]
    plain = [name for name in run.dense if name != "majority"]
    kinds = {named.name for named in run.saes}
    rivals = [*run.options.comparators, *(named.name for named in run.named if named.name not in kinds)]
    cells += pool.pools(cells, plain, both_pools(rivals), both_pools([named.name for named in run.saes]))
    told_of, shared = facts(run, cells, records)
    points = sorted({cell.point for cell in cells}, key=lambda p: (p is not None, p))
    sets = {record.about["name"]: record.about.get("set", "") for record in records}
    split = "shift:ood" if run.options.regime == "shift" else "test"
    tables = [
        Tables(task_name(run, point), [c for c in cells if c.point == point], told_of, shared, split, sets)
        for point in points
    ]
    found = results(tables, seed=run.options.seed, resamples=run.options.resamples)
    add_wins(found, tables, run.options.seed, run.options.resamples)
    audited = [(record.about.get("set") or record.about["name"], record.audit) for record in records if record.audit]
    found = Results.join([found, audit.detection_results(
        audited, run.name, Cost(id="audit", access="activations"), seed=run.options.seed, resamples=run.options.resamples
    )])  # fmt: skip
    read = scan.scanned(run) if run.options.scan is not None else None
    if read is not None:
        found = Results.join([found, scan.results(read, run.name)])
    told = page_data(run, records, tables, told_of, found)
    if read is not None:
        told |= {"scan": read, "sentences": [*told["sentences"], scan.sentence(read)]}
    with artefact.new_folder(folder) as place:
        found.save(place)
        artefact.write_json(place / FILE, told)
        artefact.write_json(
            place / "run.json", {"provenance": run.provenance(), "model": run.model.name, "site": run.site}
        )
    return folder


def both_pools(names: Sequence[str]) -> list[str]:
    return [arm for name in names for arm in (name, f"{name} {MAX}")]


def task_name(run: Run, point: float | None) -> str:
    return run.name if point is None else f"{run.name}, {POINT_NAME[run.options.regime]} {point:g}"


def add_wins(found: Results, tables: Sequence[Tables], seed: int, resamples: int) -> None:
    """How often each arm is above `lr` on a task (means over seeds): at all, by more than .005, and below by more."""
    for table in tables:
        means = by_task(table.cells)
        base = means.get((pool.ALWAYS, None), {})
        for (name, k), mine in means.items():
            shared = sorted(mine.keys() & base.keys())
            if name == pool.ALWAYS or not shared:
                continue
            gains = np.array([mine[task] - base[task] for task in shared])
            arm = Arm(
                name=name, role="baseline", cost=found.costs[0].id, seed=SEEDLESS, subject="" if k is None else f"k{k}",
                point_name=None if k is None else "k", label=f"k={k}",
            )  # fmt: skip
            for metric, margin in WINS:
                won = gains < margin if margin < 0 else gains > margin
                units = Units.of(
                    study=f"{STUDY}, wins", task=table.task, arm=name, metric=metric, split=table.split, seed=SEEDLESS,
                    point=None if k is None else float(k), subject=arm.subject, unit_kind="task",
                    unit=[table.unit(task) for task in shared], num=won.astype(float), den=np.ones(len(won)),
                )  # fmt: skip
                found.units = Units.concat([found.units, units])
                found.outcomes += summarise(
                    units, [arm], [Metric(name=metric, better="none")], seed=seed, resamples=resamples
                )


def by_task(cells: Sequence[Cell]) -> dict[tuple[str, int | None], dict[str, float]]:
    """(arm, k) -> task -> mean test AUC over the seeds."""
    held: dict[tuple[str, int | None], dict[str, list[float]]] = {}
    for c in cells:
        if np.isfinite(c.test):
            held.setdefault((c.arm, c.k), {}).setdefault(c.task, []).append(c.test)
    return {key: {task: float(np.mean(v)) for task, v in tasks.items()} for key, tasks in held.items()}


def page_data(
    run: Run, records: Sequence[Record], tables: Sequence[Tables], told_of: dict[str, ArmFacts], found: Results
) -> dict[str, Any]:
    """Everything the page needs beyond the tables of core."""
    options = run.options
    lines = honesty.lines(record.permuted for record in records)
    told: dict[str, Any] = {
        "schema": SCHEMA,
        "setting": {
            "model": run.model.name, "site": run.site, "pool": run.pool, "tasks": run.name, "regime": options.regime,
            "point_name": POINT_NAME.get(options.regime), "seeds": options.seeds, "folds": options.folds,
            "context": options.context, "max_rows": options.max_rows,
        },
        "tasks": [record.about for record in records],
        "arms": {name: asdict(f) for name, f in told_of.items()},
        "missing": run.bench.missing,
        "rows": [row for table in tables for row in arm_rows(table, found)],
        "per_task": {table.task: per_task(table) for table in tables},
        "picked": [pick for table in tables for pick in picked(table)],
        "permuted": [{**asdict(line), "honest": line.honest, "sentence": line.sentence} for line in lines],
        "mislabelled": [row for record in records for row in record.audit.get("rows", [])],
        "mislabelled_about": audit.ABOUT,
        "detection": [
            {"arm": o.arm, "mean": o.value, "lo": o.lo, "hi": o.hi}
            for o in found.outcomes
            if o.study == audit.STUDY and o.split == "test" and (o.seed is None or (o.n_seeds == 1 and options.seeds == 1))
        ],
        "first": first.table([(r.about, r.cells) for r in records], [named.name for named in run.saes]),
        "fits": sum(r.about["fits"] for r in records),
        "not_converged": sum(r.about["not_converged"] for r in records),
    }  # fmt: skip
    told["sentences"] = words.sentences(told, found)
    return told


def arm_rows(table: Tables, found: Results) -> list[dict[str, Any]]:
    """One row an arm and k: mean with its interval, median over tasks, wins against lr, seconds."""
    means = by_task(table.cells)
    pooled = {
        (o.arm, None if o.point is None else int(o.point)): o
        for o in found.outcomes
        if (o.task, o.metric, o.split) == (table.task, "auc", table.split)
        and o.study != audit.STUDY
        and (o.seed is None or o.n_seeds == 1)
    }
    wins = {
        (o.arm, None if o.point is None else int(o.point), o.metric): o
        for o in found.outcomes
        if o.task == table.task and o.study == f"{STUDY}, wins"
    }
    rows: list[dict[str, Any]] = []
    for (name, k), mine in means.items():
        cells = [c for c in table.cells if (c.arm, c.k) == (name, k)]
        outcome = pooled.get((name, k))
        rows.append(
            {
                "task": table.task, "point": cells[0].point, "arm": name, "k": k, "kind": table.facts[name].kind,
                "mean": float(np.mean(list(mine.values()))), "median": float(np.median(list(mine.values()))),
                "lo": None if outcome is None else outcome.lo, "hi": None if outcome is None else outcome.hi,
                "validation": float(np.mean([c.validation for c in cells])), "n_tasks": len(mine),
                "n_train": float(np.mean([c.n_train for c in cells])), "seconds": float(np.mean([c.seconds for c in cells])),
                **{m: interval(wins.get((name, k, m))) for m, _ in WINS},
            }
        )  # fmt: skip
    return rows


def interval(o: Outcome | None) -> list[float | None] | None:
    return None if o is None else [o.value, o.lo, o.hi]


def per_task(table: Tables) -> dict[str, dict[str, float]]:
    """task -> "arm" or "arm k=16" -> mean test AUC."""
    found: dict[str, dict[str, float]] = {}
    for (name, k), mine in by_task(table.cells).items():
        for task, value in mine.items():
            found.setdefault(task, {})[name if k is None else f"{name} k={k}"] = value
    return found


def picked(table: Tables) -> list[dict[str, Any]]:
    """What the pools chose, and how often."""
    found: list[dict[str, Any]] = []
    for name in (pool.POOL, pool.WITH_SPARSE, pool.WITH_SAE):
        chosen = [c.options["chose"] for c in table.cells if c.arm == name]
        for arm in dict.fromkeys(chosen):
            found.append({"task": table.task, "pool": name, "arm": arm, "share": chosen.count(arm) / len(chosen)})
    return found


def shared_seconds(costs: Sequence[Cost]) -> float:
    return sum(cost.upfront_seconds for cost in costs)
