"""A task: texts with two labels, after duplicates and conflicts were removed, with the counts of what went.

Duplicates go by the exact text, before anything is split; a text that carries both labels says nothing and goes whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core.errors import BadInput, BadOption, nearest

POSITIVE_OF: dict[frozenset[str], str] = {
    frozenset(pair): pair[0]
    for pair in (
        ("1", "0"), ("true", "false"), ("yes", "no"), ("bigram", "not_bigram"), ("correct", "incorrect"),
        ("clickbait", "factual"), ("male", "female"), ("democratic party", "republican party"), ("a", "b"),
        ("positive", "negative"), ("pos", "neg"), ("spam", "ham"), ("good", "bad"),
    )
}  # fmt: skip
"""Which of two known labels is class 1; a pair that is not here must be told which."""


@dataclass(frozen=True)
class Counts:
    """What became of the rows of a source."""

    n_read: int = 0
    n_empty: int = 0
    n_duplicates: int = 0
    n_conflicts: int = 0  # rows whose text carries both labels; all of them are left out

    @property
    def duplicate_frac(self) -> float:
        return self.n_duplicates / max(self.n_read, 1)


@dataclass(frozen=True)
class Task:
    """texts, and labels [n] of 0 and 1; `positive` is the label that 1 stands for.

    `shift`: texts of their own to be judged on (a shift, or a user's own split). `paired`: shift row i is row i in a changed form, and is
    judged only where row i is not trained on. `set_name`: the set of several labels that this is one task of; its tasks share their texts.
    `limit`: class 1 is a number above it. `notes`: what was made of the labels, in words.
    """

    name: str
    texts: tuple[str, ...]
    labels: NDArray[np.int64]
    positive: str
    negative: str
    source: str
    counts: Counts = field(default_factory=Counts)
    notes: tuple[str, ...] = ()
    shift: Task | None = None
    paired: bool = False
    set_name: str = ""
    limit: float | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def positive_frac(self) -> float:
        return float(self.labels.mean())

    def subset(self, rows: NDArray[np.int64]) -> Task:
        """These rows alone, and with them their changed forms."""
        shift = self.shift.subset(rows) if self.paired and self.shift is not None else self.shift
        return replace(self, texts=tuple(self.texts[i] for i in rows), labels=self.labels[rows], shift=shift)


def make_task(
    name: str,
    texts: Sequence[str],
    targets: Sequence[Any],
    source: str,
    *,
    positive: str | None = None,
    one_against_rest: bool = False,
) -> Task:
    """A task from raw rows. Raises `BadInput` for one class, or labels that are not two; `BadOption` for an unknown positive.

    `positive` names class 1. Without it, two numbers or a pair of POSITIVE_OF decide; another pair of strings is refused, since
    AUC does not mind but directions and ratios do. `one_against_rest`: all labels but `positive` are class 0.
    """
    words = [word_of(target, name, row) for row, target in enumerate(targets)]
    kept, labels, counts = distinct(texts, words)
    if not kept:
        raise BadInput(f"{source}: task {name} holds no usable text ({counts.n_read} rows read); give rows with text.")
    one, zero = _classes(name, sorted(set(labels)), positive, one_against_rest)
    y = np.array([label == one for label in labels], dtype=np.int64)
    if y.min() == y.max():
        only = labels[0]
        raise BadInput(f'Task {name} has one class only ("{only}", {len(y)} texts); a probe needs texts of two.')
    return Task(name, tuple(kept), y, one, zero, source, counts)


def mended(text: str) -> str:
    """Without lone surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def word_of(target: Any, name: str, row: int) -> str:
    """A label as a word: 1.0, 1 and True are "1". Raises `BadInput` for a row without one."""
    if target is None or (isinstance(target, float) and not np.isfinite(target)):
        raise BadInput(f"Task {name}: row {row} has no label; give every row one, or leave the row out.")
    if isinstance(target, bool | np.bool_):
        return str(int(target))
    if isinstance(target, float) and target == int(target):
        return str(int(target))
    return str(target).strip()


def distinct(texts: Sequence[str], words: Sequence[str]) -> tuple[list[str], list[str], Counts]:
    """Each text once, in the order of its first appearance, without those of several labels."""
    texts = [mended(text) for text in texts]
    said: dict[str, set[str]] = {}
    n_empty = 0
    for text, word in zip(texts, words, strict=True):
        if not text or text.isspace():
            n_empty += 1
        else:
            said.setdefault(text, set()).add(word)
    torn = {text for text, found in said.items() if len(found) > 1}
    n_conflicts = sum(text in torn for text in texts)
    kept = [text for text in said if text not in torn]
    counts = Counts(len(texts), n_empty, len(texts) - n_empty - n_conflicts - len(kept), n_conflicts)
    return kept, [next(iter(said[text])) for text in kept], counts


def _classes(name: str, found: list[str], positive: str | None, one_against_rest: bool) -> tuple[str, str]:
    if positive is not None and positive not in found:
        raise BadOption(f'--positive is "{positive}", which is no label of {name}.{nearest(positive, found)}')
    if len(found) > 2 and not (one_against_rest and positive is not None):
        shown = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        raise BadInput(
            f"Task {name} has {len(found)} labels ({shown}); a binary task is needed: name one of them with --positive, "
            "and the rest become the other class."
        )
    if len(found) == 1:
        return found[0], ""
    if positive is None:
        positive = POSITIVE_OF.get(frozenset(word.lower() for word in found))
        positive = next((word for word in found if word.lower() == positive), None)
    if positive is None:
        raise BadInput(
            f'Task {name} has the labels "{found[0]}" and "{found[1]}"; say which is the positive with --positive.'
        )
    rest = [word for word in found if word != positive]
    return positive, rest[0] if len(rest) == 1 else f"not {positive}"
