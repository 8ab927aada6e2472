"""A verdict in words: one sentence, and the table that people read. Every number brings its interval and its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.arms import Metric
from assay.core.outcome import Cost, Verdict, upfront_seconds
from assay.core.resampling import FEWEST_SEEDS


@dataclass(frozen=True)
class Setting:
    """What a sentence needs beside its verdict."""

    metric: Metric
    nouns: tuple[str, str]
    costs: Sequence[Cost]
    many_tasks: bool


def sentence(verdict: Verdict, setting: Setting, floors: Sequence[str] = (), *, interpolated: bool = False) -> str:
    """As in "gated beats topk on FVU at L0 8.1 by +0.021 [0.012, 0.030] (300 documents, these two dictionaries; …)"."""
    arm, baseline = verdict.arm, verdict.baseline
    place = f"on {setting.metric.title}"
    if verdict.point is not None and verdict.point_name is not None:
        place += f" at {point_title(verdict.point_name)} {verdict.point:.3g}"
    if setting.many_tasks:
        place += f" in {verdict.task}"
    if verdict.split != "test":
        place += f" ({verdict.split})"
    by = gain_text(verdict)
    if floors:
        floor = " and ".join(floors)
        said = f"no signal between {arm} and {baseline} {place}: neither beats its floor, {floor}; gain {by}"
    elif verdict.word == "ties":
        said = f"{arm} ties with {baseline} {place}: gain {by}, within ±{verdict.margin:g}"
    elif verdict.word == "no signal":
        said = f"no signal between {arm} and {baseline} {place}: gain {by}"
    else:
        said = f"{arm} {'beats' if verdict.word == 'beats' else 'loses to'} {baseline} {place} by {by}"
        if max(abs(verdict.lo), abs(verdict.hi)) <= verdict.margin:
            said += f", less than the margin {verdict.margin:g}"
    facts = [f"{unit_text(verdict)}, {speaks_of(verdict, setting.nouns)}"]
    if interpolated:
        facts.append(f"{baseline} interpolated between its neighbours")
    facts.append(f"Holm p {p_text(verdict.p_holm)}")
    facts.append(cost_text(verdict, setting.costs))
    return f"{said} ({'; '.join(facts)})."


def speaks_of(verdict: Verdict, nouns: tuple[str, str] = ("dictionaries", "architectures")) -> str:
    """What the verdict is about: these two dictionaries, or, from three seeds on, these two architectures."""
    if verdict.n_seeds >= FEWEST_SEEDS:
        return f"these two {nouns[1]}"
    return f"these two {nouns[0]}" if verdict.n_seeds == 1 else f"these {nouns[0]} of {verdict.n_seeds} seeds"


def unit_text(verdict: Verdict) -> str:
    units = f"{verdict.n_units} {verdict.unit_kind}s"
    resampled = verdict.n_seeds >= FEWEST_SEEDS and verdict.unit_kind != "seed"
    return f"{units} × {verdict.n_seeds} seeds" if resampled else units


def gain_text(verdict: Verdict) -> str:
    """Gain and interval with as many decimals as the interval's half-width deserves."""
    half = (verdict.hi - verdict.lo) / 2
    digits = 3 if half <= 0 else min(8, max(1, math.ceil(-math.log10(half / 3))))
    lo, hi = (f"{value:.{digits}f}" for value in (verdict.lo, verdict.hi))
    return f"{verdict.gain:+.{digits}f} [{lo}, {hi}]".replace("-", "−")


def p_text(p: float) -> str:
    if p < 0.0001:
        return "< .0001"
    digits = 4 if p < 0.01 else 3 if p < 0.1 else 2
    return f"= {p:.{digits}f}".replace("= 0.", "= .")


def point_title(point_name: str) -> str:
    return "L0" if point_name == "l0" else point_name


def cost_text(verdict: Verdict, costs: Sequence[Cost]) -> str:
    """Seconds before first use on either side, shared parts counted once on each."""
    first, second = (upfront_seconds(costs, cost) for cost in verdict.costs)
    trained = any(cost.params_trained for cost in costs if cost.id in verdict.costs)
    return f"{first:.3g} s vs {second:.3g} s of {'training' if trained else 'preparation'}"


HEADERS = (
    *("metric", "split", "arm", "at", "baseline", "values"),
    *("gain", "verdict", "Holm p", "units", "speaks of", "seconds"),
)


def verdict_table(
    verdicts: Sequence[Verdict],
    costs: Sequence[Cost],
    nouns: tuple[str, str] = ("dictionaries", "architectures"),
) -> list[tuple[str, ...]]:
    """The table that people read: a header row, then one row per verdict."""
    rows: list[tuple[str, ...]] = [HEADERS]
    for v in verdicts:
        at = "" if v.point is None or v.point_name is None else f"{point_title(v.point_name)} {v.point:.3g}"
        seconds = " vs ".join(f"{upfront_seconds(costs, cost):.3g}" for cost in v.costs)
        rows.append(
            (
                v.metric,
                v.split,
                v.arm,
                at,
                v.baseline,
                f"{v.arm_value:.4g} vs {v.baseline_value:.4g}",
                gain_text(v),
                v.word,
                p_text(v.p_holm).removeprefix("= "),
                unit_text(v),
                speaks_of(v, nouns),
                seconds,
            )
        )
    return rows
