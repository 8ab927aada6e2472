"""The training logs of the dictionaries, so that "not converged" can be told from "refuted"."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from assay.core.artefact import read_json

LOG = "log.jsonl"
Run = list[dict[str, float]]
"""One training run: the numbers of each tick, `tokens` among them."""


def curves(folders: Iterable[Path], runs: Sequence[dict[str, Any]]) -> dict[str, list[Run]]:
    """arm -> training runs. Logs lie in the folders, or in those of the dictionaries that run.json names beside them.

    The arm of a run is the one run.json gives its folder, else the `arch` beside the log, else the folder's name.
    """
    arms = {
        str(e.get("path")): str(e.get("arm")) for run in runs for e in run.get("dictionaries") or [] if e.get("path")
    }
    found: dict[str, list[Run]] = {}
    seen: set[Path] = set()
    for folder in folders:
        for log in [*below(folder), *_beside(folder, arms)]:
            if log.resolve() in seen:
                continue
            seen.add(log.resolve())
            ticks = _ticks(log)
            if ticks:
                found.setdefault(arms.get(log.parent.name) or _arch(log.parent), []).append(ticks)
    return found


def below(folder: Path) -> list[Path]:
    """Logs in a folder, in its subfolders, and in theirs."""
    return sorted([*folder.glob(LOG), *folder.glob(f"*/{LOG}"), *folder.glob(f"*/*/{LOG}")])


def _beside(folder: Path, names: Iterable[str]) -> list[Path]:
    """Logs of the named dictionaries in the folder's neighbours, as `demo` lays them out; a name is never a path."""
    place = folder.resolve().parent
    plain = {name for name in names if name and Path(name).name == name}
    return sorted(log for log in [*place.glob(f"*/{LOG}"), *place.glob(f"*/*/{LOG}")] if log.parent.name in plain)


def _arch(folder: Path) -> str:
    if (folder / "config.json").is_file():
        options = read_json(folder / "config.json")
        if isinstance(options, dict) and isinstance(options.get("arch"), str):
            return options["arch"]
    return folder.name


def _ticks(log: Path) -> Run:
    """The lines of a log; a run killed while writing leaves a torn last line, which is skipped."""
    ticks: Run = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            tick = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(tick, dict) and "tokens" in tick:
            ticks.append({k: float(v) for k, v in tick.items() if isinstance(v, int | float) and math.isfinite(v)})
    return ticks
