"""Labels of more than two kinds made into tasks of two: one class against the rest, or a number above the median.

classes   up to MOST_CLASSES labels: one task a label, that label against all others; a class of too few texts has no task, and that is said
numbers   more than MOST_CLASSES numbers: class 1 is a number above the median of the distinct texts; numbers equal to it are class 0

Whole numbers that run from 0 or 1 without a gap may be codes of classes, whose median means nothing; they are numbers only when `above` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from assay.core.config import require
from assay.core.errors import BadInput, BadOption
from assay.probing.data import Task, distinct, make_task, word_of

MOST_CLASSES = 12
FEWEST_OF_CLASS = (
    200  # distinct texts a class of several needs to be a task of its own; half its even share where that is less
)
MEDIAN = "median"


def tasks_of(
    name: str, texts: Sequence[str], targets: Sequence[Any], source: str, positive: str | None = None, above: str | None = None
) -> list[Task]:  # fmt: skip
    """One task of two labels, one a class where there are a few more, one above the median where there are many numbers.

    `positive` names class 1 and leaves one task; `above` is `median` or a number, and makes one task of numbers.
    """
    if above is not None:
        return [above_limit(name, texts, targets, source, None if above == MEDIAN else float(above))]
    labels = {str(target) for target in targets if target is not None}
    if positive is None and 2 < len(labels) <= MOST_CLASSES:
        return against_rest(name, texts, targets, source)
    if positive is None and len(labels) > MOST_CLASSES and all(_is_number(t) for t in targets if t is not None):
        if _may_be_codes(targets):
            raise BadInput(
                f"{source}: {name} has {len(labels)} whole numbers without a gap as labels, which may be codes of classes; say --above "
                "median where they are amounts, or name one class with --positive."
            )
        return [above_limit(name, texts, targets, source)]
    return [make_task(name, texts, targets, source, positive=positive, one_against_rest=True)]


def against_rest(name: str, texts: Sequence[str], targets: Sequence[Any], source: str) -> list[Task]:
    """One task a class against the rest. Classes of fewer than FEWEST_OF_CLASS texts, or than half an even share, have none."""
    words = [word_of(target, name, row) for row, target in enumerate(targets)]
    kept, labels, _ = distinct(texts, words)
    sizes = Counter(labels)
    fewest = min(FEWEST_OF_CLASS, len(kept) // (2 * max(len(sizes), 1)))
    chosen = [label for label in sorted(sizes) if sizes[label] >= max(fewest, 1)]
    small = [f"{label} ({sizes[label]})" for label in sorted(sizes) if label not in chosen]
    notes = [f"one class against the {len(sizes) - 1} others of {name}"]
    if small:
        notes.append(f"no task for classes of fewer than {fewest} texts: {', '.join(small)}")
    return [
        replace(
            make_task(f"{name}-{label}", texts, targets, source, positive=label, one_against_rest=True),
            set_name=name,
            notes=tuple(notes),
        )
        for label in chosen
    ]


def above_limit(
    name: str, texts: Sequence[str], targets: Sequence[Any], source: str, limit: float | None = None
) -> Task:
    """One task of numbers: class 1 is above `limit`, or above the median of the distinct texts; a number equal to it is class 0.

    Texts with several numbers go whole, as texts with both labels do. Raises `BadInput` where a label is no number, or none is above.
    """
    words = [word_of(target, name, row) for row, target in enumerate(targets)]
    for row, target in enumerate(targets):
        if not _is_number(target):
            raise BadInput(
                f'Task {name}: the label of row {row} is "{str(target)[:40]}", not a number; leave --above out.'
            )
    kept, labels, counts = distinct(texts, words)
    if not kept:
        raise BadInput(f"{source}: task {name} holds no usable text ({counts.n_read} rows read); give rows with text.")
    values = np.array([float(label) for label in labels])
    at = float(np.median(values)) if limit is None else limit
    y = (values > at).astype(np.int64)
    if y.min() == y.max():
        side = "above" if y[0] else "at or below"
        raise BadInput(f"Task {name}: all {len(y)} labels are {side} {at:.10g}; give another limit with --above.")
    ties = int((values == at).sum())
    which = f"the median of {len(y):,} distinct texts" if limit is None else "as --above says"
    note = f"class 1 is a label above {at:.10g}, {which}; {ties:,} texts at it are class 0"
    return Task(name, tuple(kept), y, f"above {at:.10g}", f"at most {at:.10g}", source, counts, notes=(note,), limit=at)


def require_limit(above: str, positive: str | None) -> None:
    """Refuse an --above that is neither `median` nor a number, or that comes with --positive."""
    try:
        good = above == MEDIAN or bool(np.isfinite(float(above)))
    except ValueError:
        good = False
    require(good, "above", above, "a number, or median")
    if positive is not None:
        raise BadOption("--above and --positive both say which labels are class 1; give one of them.")


def _is_number(target: Any) -> bool:
    return (
        isinstance(target, int | float | np.number)
        and not isinstance(target, bool)
        and bool(np.isfinite(float(target)))
    )


def _may_be_codes(targets: Sequence[Any]) -> bool:
    found = {float(target) for target in targets if target is not None}
    low, high = min(found), max(found)
    return (
        low in (0.0, 1.0)
        and high == int(high)
        and len(found) == int(high - low) + 1
        and all(v == int(v) for v in found)
    )
