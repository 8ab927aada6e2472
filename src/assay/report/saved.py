"""What the page is made from: the saved files of one or several result folders, by setting, arm and point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.artefact import read_json
from assay.core.errors import BadInput, Corrupt, NotFound
from assay.core.outcome import FILES, Cost, Note, Outcome, Results, Verdict
from assay.report import logs
from assay.report.words import family

LEARNED = ("method", "baseline")
_ROLE_ORDER = {"method": 0, "baseline": 1, "control": 2, "floor": 3}


@dataclass
class Row:
    """One dictionary, or one sparsity of an arm pooled over seeds: every metric of it that was measured."""

    arm: str
    role: str
    seed: int | None
    point: float | None
    subject: str
    options: dict[str, Any]
    cost: str
    n_seeds: int = 1
    cells: dict[str, Outcome] = field(default_factory=dict)
    members: list[Row] = field(default_factory=list)  # the dictionaries behind a pooled row, one a seed

    def value(self, name: str) -> float | None:
        outcome = self.cells.get(name)
        return outcome.value if outcome is not None and _finite(outcome.value) else None

    @property
    def l0(self) -> float | None:
        measured = self.value("l0")
        return measured if measured is not None else self.point


@dataclass
class Setting:
    """One model, site, text and split: what may be drawn into one picture."""

    title: str
    study: str
    task: str
    split: str
    rows: list[Row]
    verdicts: list[Verdict]
    notes: list[Note]

    def pooled(self) -> list[Row]:
        """The rows that pictures show: pooled over seeds where that exists, else the dictionaries themselves."""
        behind = {id(member) for row in self.rows for member in row.members}
        return [row for row in self.rows if id(row) not in behind]

    def singles(self) -> list[Row]:
        """The dictionaries behind pooled rows."""
        return [member for row in self.rows for member in row.members]

    def arms(self) -> list[str]:
        return list(dict.fromkeys(row.arm for row in self.rows))


@dataclass
class Saved:
    """All that was found in the folders."""

    folders: list[Path]
    results: Results
    settings: list[Setting]
    runs: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    histogram: dict[tuple[str, str], list[float]]
    curves: dict[str, list[logs.Run]]
    roles: dict[str, str]
    notes: list[str]

    @property
    def costs(self) -> dict[str, Cost]:
        return {cost.id: cost for cost in self.results.costs}

    def arm_order(self) -> list[str]:
        """Methods, baselines, controls, floors; within a role in the order of the results."""
        return sorted(self.roles, key=lambda arm: _ROLE_ORDER.get(self.roles[arm], 4))


def load(folders: Sequence[Path]) -> Saved:
    """Read and join result folders; folders of training runs beside them add their curves.

    Raises `NotFound` for a folder without results, `Corrupt` for damaged files.
    """
    if not folders:
        raise BadInput("No result folder was given; a report is made from one or more, such as runs/evaluate-1.")
    paths = list(dict.fromkeys(part for folder in folders for part in parts_of(Path(folder))))
    parts: list[Results] = []
    settings: dict[tuple[str, ...], Setting] = {}
    runs: list[dict[str, Any]] = []
    for folder in paths:
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder; give the --out folder of evaluate, study or demo.")
        if not (folder / FILES["outcomes"]).exists() and logs.below(folder):
            continue  # a folder of training runs: it adds its curves
        part, run = Results.load(folder), _run(folder)
        parts.append(part)
        if run is not None:
            runs.append(run)
        _arrange(part, run, settings)
    if not parts:
        raise NotFound(f"{paths[0]} holds training runs but no evaluation; run assay evaluate on them first.")
    results = parts[0] if len(parts) == 1 else Results.join(parts)
    for setting in settings.values():
        setting.rows.sort(key=_row_order)
        for row in setting.rows:
            if row.seed is None:
                subjects = row.subject.split(",")
                row.members = [
                    r for r in setting.rows if r.seed is not None and r.arm == row.arm and r.subject in subjects
                ]
        setting.verdicts.sort(key=lambda v: (v.metric, v.arm, v.point if v.point is not None else math.inf))
    roles: dict[str, str] = {}
    for outcome in results.outcomes:
        roles.setdefault(outcome.arm, outcome.role)
    notes: list[str] = []
    shown = _shown(list(settings.values()))
    return Saved(
        paths,
        results,
        _titled(shown),
        runs,
        _examples(paths, notes),
        _histogram(paths),
        logs.curves(paths, runs),
        roles,
        notes,
    )


def parts_of(folder: Path) -> list[Path]:
    """The folders to read for one that is given: a demo's results lie in its `evaluation`, its training runs beside them."""
    inside = folder / "evaluation"
    if not (folder / FILES["outcomes"]).exists() and (inside / FILES["outcomes"]).exists():
        return [inside, folder]
    return [folder]


def _arrange(part: Results, run: dict[str, Any] | None, settings: dict[tuple[str, ...], Setting]) -> None:
    """Put what one folder found into its settings; folders about the same model and site share them."""
    place = tuple(str((run or {}).get(key) or "") for key in ("model", "site"))

    def setting(study: str, task: str, split: str) -> Setting:
        return settings.setdefault((*place, study, task, split), Setting("", study, task, split, [], [], []))

    by_key: dict[tuple[Any, ...], Row] = {}
    for o in part.outcomes:
        found = setting(o.study, o.task, o.split)
        key = (id(found), o.arm, o.seed, o.subject, o.point if o.seed is None or not o.subject else None)
        row = by_key.get(key)
        if row is None:
            row = by_key[key] = Row(o.arm, o.role, o.seed, o.point, o.subject, o.options, o.cost)
            found.rows.append(row)
        row.n_seeds = max(row.n_seeds, o.n_seeds or 1)
        row.cells.setdefault(family(o.metric), o)
    for verdict in part.verdicts:
        kept = setting(verdict.study, verdict.task, verdict.split).verdicts
        if verdict not in kept:
            kept.append(verdict)
    for note in part.notes:
        remarks = setting(note.study, note.task, note.split).notes
        if note not in remarks:
            remarks.append(note)


def _shown(settings: list[Setting]) -> list[Setting]:
    """Validation served to choose the baseline; it is shown only where nothing else exists."""
    kept = [s for s in settings if s.split != "validation" and s.rows]
    return kept or [s for s in settings if s.rows]


def _titled(settings: list[Setting]) -> list[Setting]:
    """Name each setting by what distinguishes it from the others."""
    several = {name: len({getattr(s, name) for s in settings}) > 1 for name in ("study", "task", "split")}
    for setting in settings:
        parts = [setting.task or setting.study] + [
            setting.study if several["study"] and setting.task else "",
            f"on {setting.split}" if several["split"] or setting.split.startswith("shift") else "",
        ]
        setting.title = ", ".join(part for part in parts if part)
    return settings


def _row_order(row: Row) -> tuple[Any, ...]:
    return (
        _ROLE_ORDER.get(row.role, 4),
        row.arm,
        row.seed is not None,
        row.l0 if row.l0 is not None else math.inf,
        row.seed or 0,
    )


def _run(folder: Path) -> dict[str, Any] | None:
    if not (folder / "run.json").is_file():
        return None
    run = read_json(folder / "run.json")
    if not isinstance(run, dict):
        raise Corrupt(f"{folder / 'run.json'} holds no JSON object; it was altered.")
    return run | {"folder": folder.name}


def _table(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise Corrupt(f"{path} is not a whole Parquet file ({error}); it was torn or altered.") from None


def _examples(folders: Iterable[Path], notes: list[str]) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for folder in folders:
        path = folder / "examples.parquet"
        for row in _table(path) if path.is_file() else []:
            if len(row["tokens"]) != len(row["values"]):
                notes.append(
                    f"One context in {path} has {len(row['tokens'])} tokens and {len(row['values'])} values; left out."
                )
                continue
            found.setdefault((row["subject"], row["latent"], row["rank"]), row)
    return list(found.values())


def _histogram(folders: Iterable[Path]) -> dict[tuple[str, str], list[float]]:
    """(arm, subject) -> firing frequency of every latent."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for folder in folders:
        path = folder / "histogram.parquet"
        for row in _table(path) if path.is_file() else []:
            found.setdefault((row["arm"], row["subject"]), {})[row["latent"]] = row["frequency"]
    return {key: list(latents.values()) for key, latents in found.items()}


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
