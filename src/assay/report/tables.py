"""The tables: verdicts, and every arm at every sparsity. Each number carries its exact value in `<data>`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from assay.core.outcome import Cost, Verdict
from assay.core.sentence import unit_text
from assay.report.canvas import Look, key
from assay.report.findings import metric_order, speaks_of_architecture
from assay.report.markup import Html, Notes, escape, join, table, tag
from assay.report.saved import Row, Saved, Setting
from assay.report.words import duration, number, p_value, quantity, signed
from assay.report.words import metric as describe

QUALITY = ("l0", "fvu", "loss_recovered_zero", "loss_recovered_mean", "delta_loss", "gamma", "cosine", "norm_ratio")
HEALTH = ("l0_train", "dead", "dense_1", "dense_10")


def pill(word: str) -> Html:
    known = word if word in ("beats", "ties", "loses") else "none"
    return tag("span", word, class_=f"pill {known}")


def data(value: float | None, written: str) -> Html:
    """A number as shown, with the exact one beside it for whoever reads the page by program."""
    if value is None or not math.isfinite(value):
        return escape(written)
    return tag("data", written, value=repr(float(value)))


def interval(low: float | None, high: float | None, style: int | str, sign: bool = False) -> Html:
    write = signed if sign else number
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Html("")
    inside = join([data(low, write(low, style)), data(high, write(high, style))], ", ")
    return tag("span", Html("["), inside, Html("]"), class_="ci")


def verdicts(setting: Setting, looks: dict[str, Look]) -> Html:
    """One row a verdict, grouped by metric; the small picture shows the interval, zero and the margin of a tie."""
    parts: list[Html] = []
    for name in sorted({v.metric for v in setting.verdicts}, key=metric_order):
        group = [v for v in setting.verdicts if v.metric == name]
        parts.append(_verdicts_of(name, group, setting, looks))
    return join(parts)


def _verdicts_of(name: str, group: list[Verdict], setting: Setting, looks: dict[str, Look]) -> Html:
    style = describe(name).style
    widest = max(
        [abs(x) for v in group for x in (v.lo, v.hi, v.gain) if math.isfinite(x)] + [v.margin * 1.5 for v in group]
    )
    rows = []
    for before, v in zip([None, *group[:-1]], group, strict=True):
        same = before is not None and (before.arm, before.baseline) == (v.arm, v.baseline)
        rows.append(
            tag(
                "tr",
                tag("th", key(v.arm, looks[v.arm]) if v.arm in looks else v.arm, scope="row"),
                tag("td", pill(v.word), class_="l", title=v.sentence),
                tag("td", v.baseline, class_="l"),
                tag("td", data(v.point, number(v.point, "count"))),
                tag("td", data(v.arm_value, number(v.arm_value, style))),
                tag("td", data(v.baseline_value, number(v.baseline_value, style))),
                tag("td", data(v.gain, signed(v.gain, style)), " ", interval(v.lo, v.hi, style, sign=True)),
                tag("td", whisker(v, widest)),
                tag("td", data(v.p_holm, p_value(v.p_holm))),
                tag("td", unit_text(v), tag("span", scope(v), class_="ci")),
                class_="same" if same else None,
            )
        )
    first, most = group[0], max(v.n_candidates for v in group)
    described = describe(name)
    caption = join(
        [
            tag("b", described.label),
            f" (ties within ±{first.margin:.3g}; {first.family_size} verdicts share the Holm correction; "
            + (f"baseline chosen on {first.chosen_on} among {most})" if most > 1 else "there was one baseline)"),
        ]
    )
    point = "L0" if first.point_name == "l0" else first.point_name or "point"
    head = [
        "arm",
        _left("verdict"),
        _left("against"),
        point,
        "arm’s",
        "baseline’s",
        "gain [95 %]",
        "",
        "p (Holm)",
        "units, speaks of",
    ]
    return table(head, rows, caption, class_="whole")


def scope(v: Verdict) -> str:
    return "the architectures" if speaks_of_architecture(v) else "these dictionaries"


def whisker(v: Verdict, widest: float) -> Html:
    """The interval of the gain on a common scale: a bar around a dot, zero as a line, ± margin as a band."""
    if not all(math.isfinite(x) for x in (v.gain, v.lo, v.hi)) or widest <= 0:
        return Html("")

    def at(x: float) -> str:
        return f"{60 + 56 * max(-1.0, min(1.0, x / widest)):.1f}"

    colour = {"beats": "good", "loses": "bad", "ties": "even"}.get(v.word, "mute")
    margin = 56 * min(1.0, v.margin / widest)
    return Html(
        f'<svg viewBox="0 0 120 12" style="width:7.5rem;height:.75rem" aria-hidden="true">'
        f'<rect x="{60 - margin:.1f}" width="{2 * margin:.1f}" height="12" fill="var(--rule)" opacity=".6"/>'
        f'<path d="M60 0v12" stroke="var(--quiet)" stroke-width=".8"/>'
        f'<path d="M{at(v.lo)} 6H{at(v.hi)}" stroke="var(--{colour})" stroke-width="2.2"/>'
        f'<circle cx="{at(v.gain)}" cy="6" r="3" fill="var(--{colour})"/></svg>'
    )


def arms(setting: Setting, rows: Sequence[Row], saved: Saved, looks: dict[str, Look], prefix: str) -> Html:
    """Two tables of the same rows: what each arm achieves, and what it is like inside and cost."""
    present = {name for row in rows for r in (row, *row.members) for name in r.cells}
    extra = sorted(present - set(QUALITY) - set(HEALTH))
    quality = [n for n in QUALITY if n in present] + extra
    health = [n for n in HEALTH if n in present]
    notes, sizes, costs = Notes(prefix), _sizes(saved), saved.costs
    told = _telling_options(rows)

    def first(row: Row, before: Row | None) -> list[Html]:
        named = key(row.arm, looks[row.arm]) if before is None or before.arm != row.arm else Html("")
        hidden = "" if named else tag("span", row.arm, class_="unseen")
        seed = f"seed {row.seed}" if row.seed is not None and row.seed >= 0 and _several_seeds(rows, row.arm) else ""
        options = [f"{name} {_short(row.options[name])}" for name in told[row.arm] if name in row.options]
        return [
            tag("th", named, hidden, scope="row"),
            tag("td", ", ".join(filter(None, [*options, seed])), class_="l quiet"),
        ]

    def rendered(cells: Callable[[Row], list[Html]]) -> list[Html]:
        lines = []
        for before, row in zip([None, *rows[:-1]], rows, strict=True):
            same = before is not None and before.arm == row.arm
            lines.append(tag("tr", *first(row, before), *cells(row), class_="same" if same else None))
        return lines

    def measured(row: Row, names: Sequence[str]) -> list[Html]:
        return [cell(row, name, notes) for name in names]

    def inside(row: Row) -> list[Html]:
        everyone = row.members or [row]
        size = [sizes.get(r.subject) for r in everyone]
        spent = [costs.get(r.cost) for r in everyone]
        return [tag("td", spanned(size, quantity)), *measured(row, health), *_cost([c for c in spent if c], notes)]

    pooled = " Several seeds: the mean over them, or their range." if any(row.members for row in rows) else ""
    caption = f"What each arm achieves, 95 % intervals below.{pooled}"
    top = table(
        ["arm", _left("options"), *map(_column, quality)], rendered(lambda row: measured(row, quality)), caption
    )
    marginal = next((c.marginal_per for c in costs.values() if c.marginal_per), "document")
    head = [
        "arm",
        _left("options"),
        "latents",
        *map(_column, health),
        "training",
        "tokens",
        "parameters",
        f"encoding a {marginal}",
        "on disk",
    ]
    shared = [c for c in costs.values() if any(c.id in other.includes for other in costs.values())]
    said = [
        f" Shared by all: {c.id.split('-')[0]} of {c.upfront_tokens:,} rows, {duration(c.upfront_seconds)}."
        for c in shared
    ]
    bottom = table(head, rendered(inside), "What each arm is like inside, and what it cost." + "".join(said))
    return join([top, bottom, notes.listed()])


def cell(row: Row, name: str, notes: Notes) -> Html:
    """A value over its interval; the range where only single seeds have one; a dash with a reason where it is null."""
    style = describe(name).style
    outcome = row.cells.get(name)
    if outcome is None:
        behind = [member.cells[name] for member in row.members if name in member.cells]
        found = [o.value for o in behind if o.value is not None]
        if found:
            reason = next((o.why_null for o in behind if o.why_null and o.lo is None), None)
            return tag("td", spanned(found, lambda v: number(v, style)), notes.mark(reason) if reason else "")
        outcome = behind[0] if behind else None
    if outcome is None:
        return tag("td", "—", notes.mark("Not measured for this arm."))
    if outcome.value is None or not math.isfinite(outcome.value):
        return tag("td", "—", notes.mark(outcome.why_null or "No value and no reason was recorded."))
    mark = notes.mark(outcome.why_null) if outcome.why_null and outcome.lo is None else ""
    return tag("td", data(outcome.value, number(outcome.value, style)), mark, interval(outcome.lo, outcome.hi, style))


def spanned(values: Sequence[float | None], write: Callable[[float], str]) -> Html:
    """One number, or the smallest and the largest of several that differ as written."""
    known = sorted(v for v in values if v is not None and math.isfinite(v))
    if not known:
        return Html("—")
    ends = [known[0]] if write(known[0]) == write(known[-1]) else [known[0], known[-1]]
    return join([data(v, write(v)) for v in ends], " – ")


def _cost(spent: Sequence[Cost], notes: Notes) -> list[Html]:
    if not spent:
        return [tag("td", "—", notes.mark("No cost was recorded for this arm."))] + [tag("td", "—")] * 4
    columns: list[tuple[list[float], Callable[[float], str]]] = [
        ([c.upfront_seconds for c in spent], duration),
        ([c.upfront_tokens for c in spent], quantity),
        ([c.params_trained for c in spent], quantity),
        ([c.marginal_seconds for c in spent], duration),
        ([c.disk_bytes for c in spent], lambda v: quantity(v, "B")),
    ]
    return [tag("td", spanned(found, write)) for found, write in columns]


def _left(name: str) -> Html:
    return tag("th", name, class_="l", scope="col")


def _column(name: str) -> Html:
    described = describe(name)
    unit = f", {described.unit}" if described.unit else ""
    return tag("th", described.label + unit, scope="col", title=described.meaning or None)


def _sizes(saved: Saved) -> dict[str, int]:
    """Number of latents by subject."""
    entries = [entry for run in saved.runs for entry in run.get("dictionaries") or []]
    return {str(e.get("subject")): e["d_sae"] for e in entries if isinstance(e.get("d_sae"), int)}


def _several_seeds(rows: Sequence[Row], arm: str) -> bool:
    return len({row.seed for row in rows if row.arm == arm}) > 1


def _telling_options(rows: Sequence[Row]) -> dict[str, list[str]]:
    """arm -> the options that differ between its rows; the rest stands with the provenance."""
    told: dict[str, list[str]] = {}
    for arm in dict.fromkeys(row.arm for row in rows):
        options = [row.options for row in rows if row.arm == arm]
        names = dict.fromkeys(name for found in options for name in found if name != "seed")
        told[arm] = [name for name in names if len({str(found.get(name)) for found in options}) > 1]
    return told


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
