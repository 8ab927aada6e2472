"""What the verdicts say, in words: one finding for each arm, metric and setting, and what was not compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.core.outcome import Verdict
from assay.core.resampling import FEWEST_SEEDS
from assay.report.saved import Saved, Setting
from assay.report.words import WORDS, family, number, signed
from assay.report.words import metric as describe

MAIN = ("loss_recovered_zero", "loss_recovered_mean", "delta_loss", "fvu", "gamma")


def speaks_of_architecture(verdict: Verdict) -> bool:
    """Whether seeds were resampled too, so that the verdict is about the recipe and not these weights alone."""
    return verdict.n_seeds >= FEWEST_SEEDS


@dataclass
class Finding:
    """All verdicts of one arm on one metric in one setting."""

    setting: Setting
    arm: str
    role: str
    metric: str
    verdicts: list[Verdict]

    @property
    def baselines(self) -> str:
        return " or ".join(dict.fromkeys(v.baseline for v in self.verdicts))

    @property
    def rank(self) -> str:
        """What the baseline is among its kind: chosen among several on validation, or the only one that there was."""
        return "the strongest baseline" if any(v.n_candidates > 1 for v in self.verdicts) else "the only baseline"

    @property
    def left(self) -> str:
        """How many sparsities of the arm have no verdict on this metric; empty when all have one."""
        total = sum(row.arm == self.arm for row in self.setting.pooled())
        return f"Compared at {len(self.verdicts)} of its {total} sparsities. " if len(self.verdicts) < total else ""

    @property
    def scope(self) -> str:
        scopes = {speaks_of_architecture(v) for v in self.verdicts}
        if len(scopes) == 2:
            return "partly of the architectures, partly of these dictionaries alone"
        return "of the architectures" if scopes == {True} else "of these dictionaries"

    def counts(self) -> dict[str, list[Verdict]]:
        by_word: dict[str, list[Verdict]] = {}
        for word in (*WORDS, *(v.word for v in self.verdicts)):
            same = [v for v in self.verdicts if v.word == word]
            if same:
                by_word[word] = same
        return by_word

    def clauses(self) -> list[tuple[str, str]]:
        """(word, where and by how much), as ("beats", "at 2 of 4 sparsities (L0 4.1, 8.3; gain +0.012 to +0.034)")."""
        style = describe(self.metric).style
        clauses: list[tuple[str, str]] = []
        for word, same in self.counts().items():
            total = len(self.verdicts)
            points = [number(v.point, "count") for v in same if v.point is not None]
            where = f"at {len(same)} of {total} sparsities compared" if total > 1 else ""
            gains = sorted({signed(v.gain, style) for v in same}, key=lambda g: float(g.replace("−", "-").rstrip(" %")))
            gain = gains[0] if len(gains) == 1 else f"{gains[0]} to {gains[-1]}"
            inside = "; ".join(filter(None, ["L0 " + ", ".join(points) if points else "", f"gain {gain}"]))
            clauses.append((word, f"{where} ({inside})".strip()))
        return clauses


def findings(saved: Saved) -> list[Finding]:
    """Findings in the order of the page: setting, then arm (methods first), then metric (fidelity first)."""
    order = saved.arm_order()
    found: list[Finding] = []
    for setting in saved.settings:
        keys = dict.fromkeys((v.arm, v.metric) for v in setting.verdicts)
        for arm, name in sorted(keys, key=lambda k: (order.index(k[0]) if k[0] in order else 99, metric_order(k[1]))):
            same = [v for v in setting.verdicts if v.arm == arm and v.metric == name]
            found.append(Finding(setting, arm, saved.roles.get(arm, "method"), name, same))
    return found


def metric_order(name: str) -> tuple[int, str]:
    known = family(name)
    return (MAIN.index(known) if known in MAIN else len(MAIN), name)


def not_compared(setting: Setting, roles: dict[str, str]) -> list[str]:
    """Comparisons that were not made, or not in full, each with its reason; alike ones share a sentence."""
    alike: dict[tuple[str, str, str, str], list[float]] = {}
    for note in setting.notes:
        places = alike.setdefault((note.arm, note.baseline, note.metric, note.reason), [])
        if note.point is not None and note.point not in places:
            places.append(note.point)
    by_reason: dict[tuple[str, str, str], list[str]] = {}
    for (arm, baseline, name, reason), places in alike.items():
        at = f" at L0 {', '.join(number(x, 'count') for x in sorted(places))}" if places else ""
        names = by_reason.setdefault((arm + (f" against {baseline}" if baseline else ""), at, reason), [])
        names.append(describe(name).label)
    sentences = [f"{who} on {_list(names)}{at}: {reason}" for (who, at, reason), names in by_reason.items()]
    named = {v.arm for v in setting.verdicts} | {note.arm for note in setting.notes}
    without = [arm for arm in setting.arms() if roles.get(arm) == "method" and arm not in named]
    if setting.verdicts and without:
        sentences.append(f"{_list(without)}: no verdict on any metric.")
    return sentences


def lede(saved: Saved) -> list[str]:
    """What was run, in sentences."""
    arms = saved.arm_order()
    learned = [arm for arm in arms if saved.roles[arm] not in ("control", "floor")]
    controls = [arm for arm in arms if saved.roles[arm] in ("control", "floor")]
    if not saved.settings:
        return ["The folders hold no outcomes, so there is nothing to judge yet."]
    first = saved.settings[0]
    rows = [row for row in first.rows if row.arm in learned]
    dictionaries = sum(row.seed is not None for row in rows) or len(rows)
    seeds = max((row.n_seeds for row in first.rows), default=1)
    parts = [
        f"{count(dictionaries, 'dictionary', 'dictionaries')} ({_list(learned)}"
        + (f"; {count(seeds, 'seed')} of each)" if seeds > 1 else ")")
        + (f", beside {count(len(controls), 'control')} ({_list(controls)})" if controls else ", beside no control")
    ]
    where = ", ".join(dict.fromkeys(setting.title for setting in saved.settings))
    units = [o for row in first.rows for o in row.cells.values() if o.n_units and "documents" in o.over]
    if units:
        most = max(units, key=lambda o: o.n_units)
        tokens = max((o.n_obs // max(o.n_seeds, 1) for o in units if o.n_units == most.n_units), default=0)
        parts.append(f"measured on {most.n_units:,} documents" + (f" ({tokens:,} tokens)" if tokens else ""))
    said = f"{', '.join(parts)}: {where}."
    return [said[0].upper() + said[1:]]


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun, in words up to ten."""
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return f"{words[n].lower() if n < len(words) else n} {one if n == 1 else many or one + 's'}"


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else ""
