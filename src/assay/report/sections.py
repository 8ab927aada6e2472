"""The sections of the page, each from saved results to HTML; what cannot be shown is said in a sentence."""

from __future__ import annotations

import math

import numpy as np

from assay.report import contexts as top_contexts
from assay.report import tables
from assay.report.canvas import Look, Picture, key
from assay.report.findings import count, metric_order, not_compared
from assay.report.markup import Html, join, listing, paragraph, tag
from assay.report.pictures import against_l0, along_training, curves, firing, histogram
from assay.report.ran import words_of
from assay.report.saved import Saved, Setting
from assay.report.words import IDEAS, WORDS, family, number
from assay.report.words import metric as describe

PARETO = ("loss_recovered_zero", "loss_recovered_mean", "fvu")
NO_PICTURE = {
    "loss_recovered_zero": "Loss recovered against L0 cannot be drawn",
    "fvu": "FVU against L0 cannot be drawn",
    "gamma": "γ against L0 cannot be drawn",
}


def pareto(saved: Saved, appearance: dict[str, Look], drawn: list[Picture]) -> Html:
    parts: list[Html] = [_legend(appearance)] if appearance else []
    for number_, setting in enumerate(saved.settings):
        names = [n for n in PARETO if n != "loss_recovered_mean" or _values(setting, "loss_recovered_zero") == 0]
        figures = [_against(setting, name, f"{name.replace('_', '-')}-{number_}", appearance, drawn) for name in names]
        parts += [*_heading(saved, setting), tag("div", *figures, class_="pictures")]
    if not saved.settings:
        return paragraph("There is nothing to draw: the folders hold no outcomes.")
    return join(
        [
            paragraph(
                "Left is sparser. A dictionary is better where it reaches the same fidelity with fewer active latents. "
                "Bars are 95 % intervals; where none is seen, it is smaller than the marker."
            ),
            *parts,
        ]
    )


def gamma(saved: Saved, appearance: dict[str, Look], drawn: list[Picture]) -> Html:
    """γ against L0 beside what the picture says in words."""
    parts: list[Html] = []
    for number_, setting in enumerate(saved.settings):
        figure = _against(setting, "gamma", f"gamma-{number_}", appearance, drawn, line=1.0)
        lines = [sentence for arm in appearance if (sentence := bias(setting, arm))]
        reading = tag("div", listing(lines), class_="reading") if lines else Html("")
        parts += [*_heading(saved, setting), tag("div", figure, reading, class_="pictures")]
    intro = (
        "γ = E‖x̂‖² / E[x̂·x]. On the dotted line at 1 a reconstruction has the right length; below it, it is too short."
    )
    return join([paragraph(intro), *parts]) if parts else paragraph("γ was not measured.")


def bias(setting: Setting, arm: str) -> str:
    """The range of γ of one arm and at how many of its sparsities the interval lies below, around or above 1."""
    cells = [row.cells["gamma"] for row in setting.pooled() if row.arm == arm and row.value("gamma") is not None]
    if not cells:
        return ""
    found = sorted(o.value for o in cells if o.value is not None)
    span = number(found[0], 3) + (f" to {number(found[-1], 3)}" if len(found) > 1 else "")
    below = sum(o.hi is not None and o.hi < 1 for o in cells)
    above = sum(o.lo is not None and o.lo > 1 for o in cells)
    around = sum(o.lo is not None and o.hi is not None and o.lo <= 1 <= o.hi for o in cells)
    places = [(w, n) for w, n in (("below 1", below), ("its interval holds 1", around), ("above 1", above)) if n]
    if not places:
        return f"{arm}: γ {span}; no interval."
    if len(cells) == 1:
        return f"{arm}: γ {span}; {places[0][0]}."
    said = ", ".join(f"{word} at {n}" for word, n in places)
    return f"{arm}: γ {span}; {said} of {count(len(cells), 'sparsity', 'sparsities')}."


def _values(setting: Setting, name: str) -> int:
    return sum(row.value(name) is not None for row in setting.rows)


def _against(
    setting: Setting, name: str, file: str, appearance: dict[str, Look], drawn: list[Picture], line: float | None = None
) -> Html:
    """One metric against L0 as a figure, or the sentence that says why there is none."""
    rows = setting.pooled()
    lines = curves(rows, setting.singles(), name)
    if not lines:
        reasons = list(
            dict.fromkeys(o.why_null for row in rows if (o := row.cells.get(name)) is not None and o.why_null)
        )
        why = ": " + " ".join(reasons) if reasons else ": it was not measured, or no L0 was."
        sentence = NO_PICTURE.get(name, f"{describe(name).label} cannot be drawn") + why
        return tag("figure", tag("figcaption", sentence))
    picture, outside = against_l0(file, name, lines, appearance, line)
    drawn.append(picture)
    label = describe(name).label
    said = f"{label[0].upper()}{label[1:]} against L0." if name != "gamma" else "γ against L0."
    if outside:
        hidden = [f"{c.arm} ({number(min(c.y), 3)} to {number(max(c.y), 3)})" for c in lines if c.arm in outside]
        said += f" The frame is fitted to what was learned; partly or wholly outside it: {', '.join(hidden)}."
    return tag("figure", picture.inline(), tag("figcaption", said))


def _legend(appearance: dict[str, Look]) -> Html:
    return listing([key(arm, look) for arm, look in appearance.items()], class_="legend")


def _heading(saved: Saved, setting: Setting) -> list[Html]:
    return [tag("h3", setting.title)] if len(saved.settings) > 1 else []


def verdicts(saved: Saved, appearance: dict[str, Look]) -> Html:
    parts: list[Html] = []
    for setting in saved.settings:
        parts += _heading(saved, setting)
        if setting.verdicts:
            sentences = listing(v.sentence for v in setting.verdicts)
            summary = tag("summary", "The same in sentences")
            parts += [tables.verdicts(setting, appearance), tag("details", summary, sentences)]
        else:
            parts.append(paragraph("Nothing was compared here, so there is no verdict."))
        left = not_compared(setting, saved.roles)
        if left:
            parts += [tag("h3", "Not compared"), listing(left, class_="quiet")]
    intro = "Above 0 the arm is better than the strongest baseline at the same L0. The band is the margin of a tie."
    return join([paragraph(intro), *parts]) if parts else paragraph("Nothing was compared, so there is no verdict.")


def arms(saved: Saved, appearance: dict[str, Look]) -> Html:
    parts: list[Html] = []
    for number_, setting in enumerate(saved.settings):
        rows = setting.pooled()
        parts += [*_heading(saved, setting), tables.arms(setting, rows, saved, appearance, f"n{number_}")]
        singles = setting.singles()
        if singles:
            summary = tag("summary", f"The {len(singles)} dictionaries one by one")
            parts.append(tag("details", summary, tables.arms(setting, singles, saved, appearance, f"s{number_}")))
    return join(parts) if parts else paragraph("The folders hold no outcomes.")


def frequencies(saved: Saved, appearance: dict[str, Look], drawn: list[Picture]) -> Html:
    subjects = top_contexts.middle_subjects(saved)
    found = {
        arm: saved.histogram[arm, subject] for arm, subject in subjects.items() if (arm, subject) in saved.histogram
    }
    alive = [f for values in found.values() for f in values if f > 0]
    if not alive:
        return paragraph("No firing frequencies were saved.")
    lowest = max(-8.0, math.floor(math.log10(min(alive))))
    edges = np.linspace(lowest, 0.0, int(-lowest * 5) + 1)
    top = max(float(histogram(np.asarray(values), edges).max()) for values in found.values())
    l0 = {row.subject: row.l0 for setting in saved.settings for row in setting.rows}
    figures: list[Html] = []
    for place, (arm, values) in enumerate(found.items()):
        look = appearance.get(arm, Look("control", "o", True))
        picture = firing(f"frequency-{place}", arm, look, values, edges, top * 1.08)
        drawn.append(picture)
        at = f" at L0 {number(l0[subjects[arm]], 'count')}" if l0.get(subjects[arm]) is not None else ""
        figures.append(
            tag("figure", picture.inline(), tag("figcaption", key(arm, look), f"{at}, {len(values):,} latents"))
        )
    intro = (
        "Share of latents by how often they fire (log scale), for the middle sparsity of each arm. "
        "Latents that never fired stand apart at the left; those right of 10 % are dense."
    )
    return join([paragraph(intro), tag("div", *figures, class_="pictures small")])


def contexts(saved: Saved, appearance: dict[str, Look]) -> Html:
    boxes = top_contexts.boxes(saved, appearance)
    if not boxes:
        return paragraph("No top activating contexts were saved.")
    intro = [
        "The strongest activations of some latents, for the middle sparsity of each arm. The latents are spread "
        "evenly over firing frequency among those saved; none was picked by hand. "
        "Shade is the share of the latent’s largest activation: ",
        tag("span", tag("b", "positive", class_="h6"), " ", tag("b", "negative", class_="n6"), class_="context-key"),
        " (signed codes only).",
    ]
    return join([paragraph(*intro), boxes])


def training(saved: Saved, appearance: dict[str, Look], drawn: list[Picture]) -> Html:
    runs = {arm: ticks for arm, ticks in saved.curves.items() if any(len(run) > 1 for run in ticks)}
    if not runs:
        return paragraph("No training logs lie in these folders, so whether the runs had converged is not shown here.")
    ordered = {arm: runs[arm] for arm in [*appearance, *runs] if arm in runs}
    figures: list[Html] = []
    for name in ("fvu", "gamma"):
        if any(name in tick for ticks in runs.values() for run in ticks for tick in run):
            picture = along_training(f"training-{name}", name, ordered, appearance)
            drawn.append(picture)
            figures.append(
                tag(
                    "figure",
                    picture.inline(),
                    tag(
                        "figcaption",
                        f"{describe(name).label} on training batches, a line a run; the name stands at the middle one.",
                    ),
                )
            )
    lines = [sentence for arm, ticks in ordered.items() if (sentence := settled(arm, ticks))]
    intro = "A curve that still moves at its end belongs to a run that had not converged: its numbers refute nothing."
    return join([paragraph(intro), tag("div", *figures, class_="pictures"), listing(lines, class_="quiet")])


def settled(arm: str, runs: list[list[dict[str, float]]]) -> str:
    """How far FVU and γ of the median run moved over the last fifth of its tokens; empty if too short to say."""
    moves: dict[str, list[float]] = {"fvu": [], "gamma": []}
    for run in runs:
        for name, changes in moves.items():
            points = [(tick["tokens"], tick[name]) for tick in run if name in tick]
            if len(points) >= 5:
                start = next(value for tokens, value in points if tokens >= 0.8 * points[-1][0])
                changes.append(points[-1][1] - start)
    said = [
        f"{describe(name).label} {'+' if (move := float(np.median(changes))) > 0 else ''}{number(move, 4)}"
        for name, changes in moves.items()
        if changes
    ]
    return f"{arm}: over the last fifth of training the median run moved {' and '.join(said)}." if said else ""


def definitions(saved: Saved) -> Html:
    present = sorted({family(o.metric) for o in saved.results.outcomes}, key=metric_order)
    metrics = {describe(name).label: describe(name).meaning for name in present if describe(name).meaning}
    parts = [tag("h3", "Metrics"), words_of(metrics)] if metrics else []
    return join(
        [*parts, tag("h3", "Words of a verdict"), words_of(WORDS), tag("h3", "How to read them"), words_of(IDEAS)]
    )
