"""The four tables in which every result of assay is kept, and the container that saves, loads and joins them.

Tables, verdicts, plots and pages read nothing else. Fields, words and types are the contract of DESIGN §2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from assay.core.arms import Arm, Better, Metric, Role
from assay.core.errors import BadInput, BadOption, nearest
from assay.core.joining import join_costs, join_records, join_units
from assay.core.parquet import read_records, read_units, write_records, write_units
from assay.core.record import check, kinds, require_split, to_rows, wrong
from assay.core.units import Unit, UnitKind, Units

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["Arm", "Cost", "Metric", "Note", "Outcome", "Results", "Unit", "Units", "Verdict"]

Over = Literal["documents", "tasks", "seeds", "seeds+documents", "latents", "none"]
How = Literal["bootstrap", "t", "none"]
Word = Literal["beats", "ties", "loses", "no signal"]
Access = Literal["text", "activations", "gradients", "weights"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One number with its interval. `seed` None: pooled over seeds, the mean of their values; `subject` then joins
    their hashes with commas. `why_null` says why the value, or else the interval, is null."""

    schema: int = 1
    study: str
    task: str
    arm: str
    metric: str
    role: Role
    better: Better
    value: float | None
    why_null: str | None = None
    lo: float | None
    hi: float | None
    level: float = 0.95
    over: Over
    how: How
    n_units: int
    n_obs: int
    n_seeds: int
    seed: int | None
    split: str
    point_name: str | None = None
    point: float | None = None
    subject: str
    options: dict[str, Any]
    cost: str

    def __post_init__(self) -> None:
        check(self)
        require_split(Outcome, self.split)
        if (self.lo is None) != (self.hi is None):
            raise wrong(Outcome, "lo, hi", (self.lo, self.hi), "both numbers or both None")
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise wrong(Outcome, "lo, hi", (self.lo, self.hi), "in order")
        if (self.value is None or self.lo is None) and not self.why_null:
            raise BadInput(f"Outcome {self.arm}/{self.metric} has no value or no interval and does not say why_null.")
        if (self.lo is None) != (self.how == "none"):
            raise wrong(Outcome, "how", self.how, "none exactly when there is no interval")
        if not 0 < self.level < 1:
            raise wrong(Outcome, "level", self.level, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a subject costs once (upfront) and each time it is used (marginal, per `marginal_per`)."""

    id: str
    access: Access
    upfront_tokens: int = 0
    upfront_labels: int = 0
    upfront_calls: int = 0
    params_trained: int = 0
    upfront_seconds: float = 0.0
    upfront_flops: float | None = None
    includes: tuple[str, ...] = ()  # ids of costs shared with others: a shared dictionary is counted once
    marginal_per: str = "document"
    marginal_seconds: float = 0.0
    marginal_tokens: int = 0
    marginal_calls: int = 0
    peak_bytes: int = 0
    disk_bytes: int = 0
    device: str = "cpu"
    n_threads: int = 1

    def __post_init__(self) -> None:
        check(self)
        if not self.id:
            raise wrong(Cost, "id", self.id, "a name of its own")
        for name in ("upfront_seconds", "marginal_seconds", "upfront_tokens", "params_trained", "peak_bytes"):
            if getattr(self, name) < 0:
                raise wrong(Cost, name, getattr(self, name), "0 or more")


def upfront_seconds(costs: Iterable[Cost], *ids: str) -> float:
    """Seconds spent before first use on the named costs and all that they include, each counted once."""
    known = {cost.id: cost for cost in costs}
    open_ids, seen, seconds = list(ids), set[str](), 0.0
    while open_ids:
        name = open_ids.pop()
        if name in seen:
            continue
        if name not in known:
            raise BadInput(f'Cost "{name}" is named but was not recorded.{nearest(name, known)}')
        seen.add(name)
        seconds += known[name].upfront_seconds
        open_ids += known[name].includes
    return seconds


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One arm against its best baseline: a paired gain with interval and p, in one word and one sentence.

    gain > 0: the arm is better, whatever the direction of the metric; for "one" it is |γ_b−1| − |γ_a−1|.
    """

    study: str
    task: str
    metric: str
    split: str
    arm: str
    baseline: str
    chosen_on: str = "validation"
    n_candidates: int
    point_name: str | None
    point: float | None
    arm_value: float
    baseline_value: float
    gain: float
    lo: float
    hi: float
    p: float
    p_holm: float
    family: str
    family_size: int
    n_units: int
    unit_kind: UnitKind
    n_seeds: int
    margin: float
    word: Word
    sentence: str
    costs: tuple[str, str]

    def __post_init__(self) -> None:
        check(self)
        require_split(Verdict, self.split)
        require_split(Verdict, self.chosen_on)
        for name in ("p", "p_holm"):
            if not 0 <= getattr(self, name) <= 1:
                raise wrong(Verdict, name, getattr(self, name), "between 0 and 1")
        if self.lo > self.hi:
            raise wrong(Verdict, "lo, hi", (self.lo, self.hi), "in order")


@dataclass(frozen=True, kw_only=True)
class Note:
    """A comparison that was not made, or not in full, and why. Kept in the metadata of verdicts.parquet."""

    study: str
    task: str
    metric: str
    split: str
    arm: str
    baseline: str  # "" when it concerns every baseline
    point: float | None
    reason: str

    def __post_init__(self) -> None:
        check(self)


FILES = {
    "units": "units.parquet",
    "outcomes": "outcomes.parquet",
    "costs": "costs.parquet",
    "verdicts": "verdicts.parquet",
}


@dataclass
class Results:
    """Everything a study found: its units and what was computed from them."""

    units: Units = field(default_factory=Units.empty)
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    costs: list[Cost] = field(default_factory=list[Cost])
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    notes: list[Note] = field(default_factory=list[Note])

    def save(self, folder: Path | str) -> None:
        """Write the four Parquet files, each atomically; inside `artefact.new_folder` the set is atomic too.

        Raises `BadOption` where the folder already holds one of them.
        """
        place = Path(folder)
        for name in FILES.values():
            if (place / name).exists():
                raise BadOption(f"{place / name} already holds a result; save to a free folder.")
        write_units(place / FILES["units"], self.units)
        write_records(place / FILES["outcomes"], Outcome, self.outcomes)
        write_records(place / FILES["costs"], Cost, self.costs)
        write_records(place / FILES["verdicts"], Verdict, self.verdicts, notes=(Note, self.notes))

    @classmethod
    def load(cls, folder: Path | str) -> Results:
        """Read what `save` wrote; a missing file is `NotFound`, a torn or altered one `Corrupt` and named."""
        place = Path(folder)
        verdicts, notes = read_records(place / FILES["verdicts"], Verdict, Note)
        return cls(
            units=read_units(place / FILES["units"]),
            outcomes=read_records(place / FILES["outcomes"], Outcome)[0],
            costs=read_records(place / FILES["costs"], Cost)[0],
            verdicts=verdicts,
            notes=notes,
        )

    @classmethod
    def join(cls, several: Sequence[Results]) -> Results:
        """Put results side by side. What two of them state identically is kept once; verdicts stay as judged.

        Raises `BadInput` when two results disagree about one unit of one subject, or about the upfront cost of one id.
        """
        return cls(
            units=join_units([one.units for one in several]),
            outcomes=join_records([one.outcomes for one in several]),
            costs=join_costs([one.costs for one in several]),
            verdicts=join_records([one.verdicts for one in several]),
            notes=join_records([one.notes for one in several]),
        )

    def to_pandas(self, table: Literal["outcomes", "units", "costs", "verdicts", "notes"] = "outcomes") -> pd.DataFrame:
        """One of the tables as a data frame; options are JSON text."""
        import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

        if table == "units":
            return self.units.to_pandas()
        tables: dict[str, tuple[type[Any], list[Any]]] = {
            "outcomes": (Outcome, self.outcomes),
            "costs": (Cost, self.costs),
            "verdicts": (Verdict, self.verdicts),
            "notes": (Note, self.notes),
        }
        if table not in tables:
            raise BadOption(f'"{table}" is not a table of results.{nearest(table, [*tables, "units"])}')
        cls, records = tables[table]
        return pd.DataFrame(to_rows(cls, records), columns=list(kinds(cls)))
