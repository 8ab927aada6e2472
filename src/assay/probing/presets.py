"""Named sets of tasks, and how `--tasks` is read: a preset, names or numbers of the wheel's tasks, storyworld, a file or a folder."""

from __future__ import annotations

from pathlib import Path

from assay.core.errors import BadInput, NotFound, nearest
from assay.probing import tables, wheel
from assay.probing.data import Task
from assay.probing.tables import Columns

QUICK = (7, 66, 92, 106, 113, 123)
"""Six tasks with head-room for a small encoder: none is saturated, none is at chance, all are quick to read."""
CORE = (26, 36, 44, 48, 50, 51, 52, 87, 90, 91, 92, 113, 120, 121, 122, 126, 127, 128, 136, 137, 138)
"""21 informative tasks: few leaked duplicates, not solved by TF-IDF, solved by a large model, 2,000 rows or more."""
PRESETS = ("quick", "core", "all", "shift", "multiclass", "continuous", tables.STORYWORLD)


def chosen(what: str, folder: Path, columns: Columns) -> tuple[str, list[Task]]:
    """(name of the set, its tasks). `what`: a preset, names or numbers of the wheel's tasks joined by commas, a file, a folder."""
    if what == tables.STORYWORLD or what.startswith(f"{tables.STORYWORLD}:"):
        wanted = what.partition(":")[2]
        return tables.STORYWORLD, tables.storyworld(wanted.split(",")) if wanted else tables.storyworld()
    path = Path(what).expanduser()
    if path.is_dir():
        return path.name, tables.folder(path, columns)
    if path.is_file() or what.endswith(tables.SUFFIXES):
        return tables.stem(path), tables.read(path, columns)
    return what, [task for name in _wheel_names(what, folder) for task in _of_wheel(folder, name)]


def _of_wheel(folder: Path, name: str) -> list[Task]:
    """The tasks of a set, or the one of its class where the name says SET-CLASS."""
    whole = name if name in wheel.kinds(folder) else _set_of(name, folder)
    assert whole is not None
    tasks = wheel.tasks(folder, whole)
    if whole == name:
        return tasks
    if found := [task for task in tasks if task.name == name]:
        return found
    raise NotFound(f'"{name}" is no task of the set {whole}.{nearest(name, [task.name for task in tasks])}')


def _set_of(word: str, folder: Path) -> str | None:
    """The set of several labels that SET-CLASS speaks of."""
    found = [name for name in wheel.names(folder, "multiclass") if word.startswith(f"{name}-")]
    return max(found, key=len, default=None)


def _wheel_names(what: str, folder: Path) -> list[str]:
    binary = wheel.names(folder)
    if what == "all":
        return list(binary)
    if what == "shift":
        return list(wheel.shifts(folder))
    if what in ("multiclass", "continuous"):
        return list(wheel.once(folder, what))
    known = list(wheel.kinds(folder))
    by_number = {int(name.split("_")[0]): name for name in known}
    if what in ("quick", "core"):
        return [by_number[number] for number in (QUICK if what == "quick" else CORE)]
    found: list[str] = []
    for word in what.split(","):
        name = by_number.get(int(word)) if word.isdecimal() else word
        if name is None or (name not in known and _set_of(name, folder) is None):
            raise NotFound(f'"{word}" is no preset, file or task.{nearest(word, [*PRESETS, *known])}')
        found.append(name)
    if len(set(found)) != len(found):
        raise BadInput(f"--tasks {what} names a task twice; name each once.")
    return found
