"""Published experiments as commands: one file a study, found by listing this folder.

names() -> ["pareto", "recovery", ...]
run("pareto", study("pareto").Options(model="storyworld", seeds=3), "runs/pareto") -> Finding

A study's file states QUESTION, CLAIM (what was published), SOURCE, its `Options`, and `run(bench, options) -> Finding`. It trains and
measures through its `Bench`, so that a run that was stopped continues where it was, and it draws nothing: the report does, from what the
study saved.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.core.errors import NotFound, nearest
from assay.studies.bench import Bench
from assay.studies.finding import Finding

NOT_STUDIES = {
    "bench",
    "by_seed",
    "finding",
    "known_features",
    "known_panels",
    "known_probes",
    "options",
    "recipes",
    "resampled",
}

__all__ = ["Bench", "Finding", "about", "names", "run", "study"]


def names() -> list[str]:
    """The studies: the files of this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in NOT_STUDIES)


def study(name: str) -> ModuleType:
    """The file of a study; an unknown name raises `NotFound` with the nearest."""
    if name not in names():
        raise NotFound(f'"{name}" is not a study.{nearest(name, names())}')
    return importlib.import_module(f"{__name__}.{name}")


def about(name: str) -> str:
    """Its question."""
    return study(name).QUESTION


def run(name: str, options: Any, out: Path | str, *, quiet: bool = False) -> Finding:
    """Do the study `name` in the folder `out`, or go on with it where an earlier run of the same options stopped."""
    module = study(name)
    bench = Bench(name, options, Path(out), quiet)
    finding: Finding = module.run(bench, options)
    finding.save(bench.out, name, module.QUESTION, module.CLAIM, module.SOURCE)
    return finding
