"""The tables: verdicts with their intervals, and every arm at every sparsity. Each number carries its full value in `<data>`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from assay.core.outcome import Cost, Outcome, Verdict
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
    widest = max([abs(x) for v in group for x in (v.lo, v.hi, v.gain) if math.isfinite(x)] + [v.margin * 1.5 for v in group])
    rows = []
    for before, v in zip([None, *group[:-1]], group, strict=True):
        same = before is not None and (before.arm, before.baseline) == (v.arm, v.baseline)
        rows.append(tag(
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
            tag("td", f"{v.n_units:,} {v.unit_kind}s" + (f" × {v.n_seeds} seeds" if v.n_seeds > 1 else "")),
            tag("td", "architecture" if speaks_of_architecture(v) else "these dictionaries", class_="l"),
            class_="same" if same else None,
        ))  # fmt: skip
    first = group[0]
    described = describe(name)
    caption = join([
        tag("b", described.label), f" (ties within ±{first.margin:.3g}; {first.family_size} verdicts share the Holm correction; "
        f"baseline chosen on {first.chosen_on} among {first.n_candidates})",
    ])  # fmt: skip
    point = "L0" if first.point_name == "l0" else first.point_name or "point"
    head = ["arm", Html('<th class="l" scope="col">verdict</th>'), Html('<th class="l" scope="col">against</th>'), point, "arm’s",
            "baseline’s", "gain [95 %]", "", "p (Holm)", "units", Html('<th class="l" scope="col">speaks of</th>')]  # fmt: skip
    return table(head, rows, caption)


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
    present = {name for row in rows for name in row.cells}
    extra = sorted(present - set(QUALITY) - set(HEALTH))
    quality = [n for n in QUALITY if n in present] + extra
    health = [n for n in HEALTH if n in present]
    notes, sizes = Notes(prefix), _sizes(saved)
    costs = saved.costs

    def first(row: Row, before: Row | None) -> Html:
        options = _options(row.options)
        named = key(row.arm, looks[row.arm]) if before is None or before.arm != row.arm else Html("")
        seed = f"seed {row.seed}" if row.seed is not None and row.seed >= 0 and _several_seeds(rows, row.arm) else ""
        small = ", ".join(filter(None, [options, seed]))
        return tag("th", named, tag("span", small, class_="ci") if small else "", scope="row")

    def rendered(cells: Callable[[Row], list[Html]]) -> list[Html]:
        lines = []
        for before, row in zip([None, *rows[:-1]], rows, strict=True):
            same = before is not None and before.arm == row.arm
            lines.append(tag("tr", first(row, before), *cells(row), class_="same" if same else None))
        return lines

    def measured(row: Row, names: Sequence[str]) -> list[Html]:
        return [cell(row.cells.get(name), describe(name).style, notes) for name in names]

    def inside(row: Row) -> list[Html]:
        cost = costs.get(row.cost)
        size = sizes.get(row.subject) or sizes.get(row.arm)
        return [tag("td", data(size, quantity(size)) if size else "—"), *measured(row, health), *_cost(cost, notes)]

    top = table(["arm", *map(_column, quality)], rendered(lambda row: measured(row, quality)), "What each arm achieves, 95 % intervals below.")
    marginal = next((c.marginal_per for c in costs.values() if c.marginal_per), "document")
    head = ["arm", "latents", *map(_column, health), "training", "tokens", "parameters", f"encoding, per {marginal}", "on disk"]
    bottom = table(head, rendered(inside), "What each arm is like inside, and what it cost.")
    return join([top, bottom, notes.listed()])


def cell(outcome: Outcome | None, style: int | str, notes: Notes) -> Html:
    """A value over its interval; a dash with a footnote where the value is null."""
    if outcome is None:
        return tag("td", "—", notes.mark("Not measured for this arm."))
    if outcome.value is None or not math.isfinite(outcome.value):
        return tag("td", "—", notes.mark(outcome.why_null or "No value and no reason was recorded."))
    mark = notes.mark(outcome.why_null) if outcome.why_null and outcome.lo is None else ""
    return tag("td", data(outcome.value, number(outcome.value, style)), mark, interval(outcome.lo, outcome.hi, style))


def _cost(cost: Cost | None, notes: Notes) -> list[Html]:
    if cost is None:
        mark = notes.mark("No cost was recorded for this arm.")
        return [tag("td", "—", mark)] + [tag("td", "—")] * 4
    return [
        tag("td", data(cost.upfront_seconds, duration(cost.upfront_seconds))),
        tag("td", data(cost.upfront_tokens, quantity(cost.upfront_tokens))),
        tag("td", data(cost.params_trained, quantity(cost.params_trained))),
        tag("td", data(cost.marginal_seconds, duration(cost.marginal_seconds))),
        tag("td", data(cost.disk_bytes, quantity(cost.disk_bytes, "B"))),
    ]


def _column(name: str) -> Html:
    described = describe(name)
    unit = f", {described.unit}" if described.unit else ""
    return tag("th", described.label + unit, scope="col", title=described.meaning or None)


def _sizes(saved: Saved) -> dict[str, int]:
    """Number of latents by subject; by arm where all of its dictionaries agree."""
    sizes: dict[str, int] = {}
    by_arm: dict[str, set[int]] = {}
    for run in saved.runs:
        for entry in run.get("dictionaries") or []:
            if isinstance(entry.get("d_sae"), int):
                sizes[str(entry.get("subject"))] = entry["d_sae"]
                by_arm.setdefault(str(entry.get("arm")), set()).add(entry["d_sae"])
    return sizes | {arm: next(iter(found)) for arm, found in by_arm.items() if len(found) == 1}


def _several_seeds(rows: Sequence[Row], arm: str) -> bool:
    return len({row.seed for row in rows if row.arm == arm}) > 1


def _options(options: dict[str, Any]) -> str:
    """Options for a reader: `l1_coef 0.6`."""
    shown = {name: value for name, value in options.items() if name != "seed"}
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items())
