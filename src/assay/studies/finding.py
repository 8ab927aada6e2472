"""What a study leaves: results of core, small data for its pictures, and whether the published claim holds here.

study.json, beside the first results folder's tables:
    schema, study, question, published, source, word, sentence, reasons
    panels: list of {name, title, kind, x, y, x_log, y_log, line, caption, series: list of {arm, x, y, lo, hi, labels}}
    tables: list of {title, head, rows} (cells are text)

The word of a claim is computed from numbers by a rule that the study's page states, never written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from assay.core.artefact import write_json
from assay.core.outcome import Outcome, Results, Verdict
from assay.core.resampling import FEWEST_SEEDS

FILE = "study.json"
SCHEMA = 1
Word = Literal["reproduced", "not reproduced", "cannot be told here"]


@dataclass(frozen=True)
class Claim:
    """The word on the published claim. `reasons`: sentences with the numbers behind it; `n_seeds`: behind those."""

    word: Word
    reasons: tuple[str, ...]
    n_seeds: int

    @property
    def sentence(self) -> str:
        scope = (
            f"speaks of the architectures, {self.n_seeds} seeds"
            if self.n_seeds >= FEWEST_SEEDS
            else f"speaks of these dictionaries only, {self.n_seeds} seed{'s' if self.n_seeds != 1 else ''}; "
            f"an architecture needs {FEWEST_SEEDS} or more"
        )
        if not self.n_seeds:
            scope = "nothing was compared"
        return f"claim: {self.word} ({scope}): {'; '.join(self.reasons)}."


@dataclass(frozen=True)
class Part:
    """One part of a claim: a sentence with numbers, and whether they show it (True), refute it (False), or neither."""

    said: str
    holds: bool | None


def claim_of(parts: Sequence[Part], n_seeds: int, moving: str = "") -> Claim:
    """Reproduced when every part holds, not reproduced when one is refuted, else it cannot be told here.

    moving: a sentence that training had not settled; what had not settled refutes nothing.
    """
    word: Word = "cannot be told here"
    if parts and all(part.holds for part in parts):
        word = "reproduced"
    elif any(part.holds is False for part in parts) and not moving:
        word = "not reproduced"
    said = [part.said for part in parts] or ["nothing could be compared"]
    return Claim(word, tuple([*said, moving] if moving and word != "reproduced" else said), n_seeds)


def won(verdicts: Sequence[Verdict], what: str) -> Part:
    """Whether the arm of these verdicts is better: it beats at more than half of them and loses at none.

    Refuted: it loses or ties at half of them or more. Words, not values: a family with no signal says nothing.
    """
    if not verdicts:
        return Part(f"{what}: no verdict", None)
    count = {word: sum(v.word == word for v in verdicts) for word in ("beats", "ties", "loses", "no signal")}
    said = f"{what}: " + ", ".join(f"{word} {n}" for word, n in count.items() if n) + f" of {len(verdicts)} verdicts"
    if not count["loses"] and count["beats"] > len(verdicts) / 2:
        return Part(said, True)
    return Part(said, False if 2 * (count["loses"] + count["ties"]) >= len(verdicts) else None)


def seeds_of(verdicts: Sequence[Verdict]) -> int:
    """The fewest seeds behind any of these verdicts."""
    return min((v.n_seeds for v in verdicts), default=0)


def pooled(results: Results, metric: str, arms: Sequence[str] | None = None) -> list[Outcome]:
    """A metric off the validation split, by arm and point: pooled over seeds where that exists, else the dictionaries' own.

    Outcomes without a value or a point are left out.
    """
    found = [
        o
        for o in results.outcomes
        if o.metric == metric and o.split != "validation" and (arms is None or o.arm in arms) and o.value is not None
    ]
    joined = {(o.arm, subject) for o in found if o.seed is None for subject in o.subject.split(",")}
    kept = [o for o in found if o.point is not None and (o.seed is None or (o.arm, o.subject) not in joined)]
    return sorted(kept, key=lambda o: (o.arm, o.point or 0.0))


def curve(outcomes: Sequence[Outcome], arm: str, name: str | None = None) -> Series:
    """One arm's outcomes against their points."""
    mine = [(o, o.value) for o in outcomes if o.arm == arm and o.value is not None]
    return Series(
        name or arm,
        [o.point or 0.0 for o, _ in mine],
        [value for _, value in mine],
        [value if o.lo is None else o.lo for o, value in mine],
        [value if o.hi is None else o.hi for o, value in mine],
    )


@dataclass(frozen=True)
class Series:
    """One line, cloud or group of bars of a panel. `lo` and `hi` may be empty; `labels` name single points."""

    arm: str
    x: list[float]
    y: list[float]
    lo: list[float] = field(default_factory=list[float])
    hi: list[float] = field(default_factory=list[float])
    labels: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Panel:
    """The data of one picture. kind: lines (x against y), points (a scatter), bars (y over `labels`), histogram (of y)."""

    name: str
    title: str
    kind: Literal["lines", "points", "bars", "histogram"]
    x: str
    y: str
    series: list[Series]
    caption: str = ""
    x_log: bool = False
    y_log: bool = False
    line: float | None = None  # a horizontal line to read against; in a histogram a vertical one


@dataclass(frozen=True)
class Table:
    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass
class Finding:
    """`results` are joined from `folders`, the names of the results folders inside the study's own."""

    results: Results
    folders: list[str]
    claim: Claim
    panels: list[Panel] = field(default_factory=list[Panel])
    tables: list[Table] = field(default_factory=list[Table])

    def save(self, out: Path, study: str, question: str, published: str, source: str) -> None:
        """Write study.json beside the tables of the first results folder."""
        write_json(
            out / self.folders[0] / FILE,
            {
                "schema": SCHEMA,
                "study": study,
                "question": question,
                "published": published,
                "source": source,
                "word": self.claim.word,
                "sentence": self.claim.sentence,
                "reasons": list(self.claim.reasons),
                "panels": [asdict(panel) for panel in self.panels],
                "tables": [asdict(table) for table in self.tables],
            },
        )
