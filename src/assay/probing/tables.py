"""Tasks from a user's own files (.jsonl, .jsonl.gz, .csv, .parquet), from a folder of them, and from storyworld's labels.

A file with two labels is one task; of a few labels or of many numbers tasks are made by `labels`. NAME-ood beside NAME holds texts of the
same question under shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.activations.readers import objects
from assay.core.errors import BadInput, BadOption, NotFound, nearest
from assay.core.untyped import pa, parquet
from assay.probing.data import POSITIVE_OF, Task, make_task
from assay.probing.labels import above_limit, tasks_of

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
SHIFT = "-ood"
STORYWORLD = "storyworld"


@dataclass(frozen=True)
class Columns:
    """Which columns hold the text and the label, and which label is class 1: one by its name, or numbers above a limit or the median."""

    text: str = "text"
    label: str = "label"
    positive: str | None = None
    above: str | None = None


def stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def rows_of(path: Path) -> dict[str, list[Any]]:
    """The columns of a file. Raises `NotFound`, or `BadInput` naming the line that cannot be read."""
    if not path.is_file():
        raise NotFound(
            f"{path} does not exist; give a file ending in {', '.join(SUFFIXES)}, a folder of them, or a preset."
        )
    if not path.name.endswith(SUFFIXES):
        raise BadInput(f"{path} is not a kind of table that can be read; known endings: {', '.join(SUFFIXES)}.")
    try:
        if path.name.endswith(".parquet"):
            return parquet.read_table(path).to_pydict()
        if path.name.endswith(".csv"):
            from pyarrow import csv

            return csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True)).to_pydict()
        rows = [row for _, row in objects(path, "text", "label")]
        return {name: [row.get(name) for row in rows] for name in (rows[0] if rows else {})}
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} cannot be read ({str(error).splitlines()[0]}); write or fetch it again.") from None


def pair_of(path: Path, columns: Columns) -> tuple[list[str], list[Any]]:
    """The texts and targets of a file. Raises `NotFound` for a column that is not there."""
    found = rows_of(path)
    for flag, name in (("--text-column", columns.text), ("--label-column", columns.label)):
        if name not in found:
            raise NotFound(f'{path} has no column "{name}"; choose with {flag}.{nearest(name, found)}')
    texts = found[columns.text]
    for row, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise BadInput(f'Row {row} of {path}: "{columns.text}" holds a {type(text).__name__}, not text.')
    return [text or "" for text in texts], found[columns.label]


def read(path: Path, columns: Columns) -> list[Task]:
    """The tasks of one file."""
    texts, targets = pair_of(path, columns)
    return tasks_of(stem(path), texts, targets, path.name, columns.positive, columns.above)


def judged_by(task: Task, name: str, texts: Sequence[str], targets: Sequence[Any], source: str) -> Task:
    """Other texts under the question of a task: the same class 1, or the same limit."""
    if task.limit is not None:
        return above_limit(name, texts, targets, source, task.limit)
    return make_task(name, texts, targets, source, positive=task.positive, one_against_rest=True)


def with_test(tasks: Sequence[Task], test: Path, columns: Columns, *, allow_shared: bool) -> list[Task]:
    """The tasks with a test file of the user's own. Texts in both files are refused, or left out of training where allowed."""
    if len(tasks) != 1:
        raise BadOption(f"--test goes with one task; these are {len(tasks)}. Choose one with --positive.")
    task = tasks[0]
    texts, targets = pair_of(test, columns)
    judged = judged_by(task, f"{task.name}-test", texts, targets, test.name)
    shared = set(task.texts) & set(judged.texts)
    if shared and not allow_shared:
        raise BadInput(
            f"{len(shared)} texts of {test.name} are also in {task.source} (such as {min(shared, key=len)[:60]!r}); take them out, or "
            "give --allow-shared to leave them out of training."
        )
    if shared:
        import numpy as np

        task = task.subset(np.array([i for i, text in enumerate(task.texts) if text not in shared]))
    return [replace(task, shift=judged)]


def folder(place: Path, columns: Columns) -> list[Task]:
    """All tasks of a folder's files, in the order of their names; NAME-ood is the shift of NAME, not a task."""
    files = sorted(path for path in place.iterdir() if path.name.endswith(SUFFIXES))
    plain = {stem(path): path for path in files}
    made: list[Task] = []
    for name, path in plain.items():
        if name.endswith(SHIFT):
            continue
        if columns.label not in rows_of(path):
            continue  # a file of several label columns, to be named by itself
        found = read(path, columns)
        beside = plain.get(name + SHIFT)
        if beside is not None and len(found) == 1:
            texts, targets = pair_of(beside, columns)
            found = [replace(found[0], shift=judged_by(found[0], name + SHIFT, texts, targets, beside.name))]
        made += found
    if not made:
        raise BadInput(f'{place} holds no file with the column "{columns.label}"; choose with --label-column.')
    return made


def storyworld(
    variables: Sequence[str] = ("gender", "species", "setting", "tense", "mood", "ending", "dialogue", "moral"),
) -> list[Task]:
    """Tasks from the variables of the stories that ship: two values are one task, several one a value against the rest."""
    from assay.core import shipped

    stories = list(shipped.stories())
    made: list[Task] = []
    for variable in variables:
        if variable not in stories[0]:
            raise NotFound(f'"{variable}" is not a variable of {STORYWORLD}.{nearest(variable, stories[0])}')
        values = [story[variable] for story in stories]
        both = sorted(set(values))
        known = frozenset(both) in POSITIVE_OF or len(both) > 2
        texts = [story["text"] for story in stories]
        made += tasks_of(variable, texts, values, STORYWORLD, None if known else both[0])
    return made
