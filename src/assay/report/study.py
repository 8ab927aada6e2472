"""The top of a study's page, from its study.json: the question, what was published, the word on it, pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from assay.core.artefact import read_json
from assay.core.errors import Corrupt
from assay.report.canvas import Look, Palette, Picture, looks
from assay.report.markup import Html, join, paragraph, table, tag
from assay.report.pictures import WIDE, plain_log
from assay.report.saved import Saved

FILE = "study.json"
NEEDED = ("study", "question", "published", "source", "word", "sentence", "panels", "tables")
PILLS = {"reproduced": "beats", "not reproduced": "loses", "cannot be told here": "none"}
N_BINS = 40
FILLED = 4  # histograms in one picture that are filled; more are outlines
BESIDE = 8  # series in one picture above which their names stand beside it
WIDER = (WIDE[0] + 1.6, WIDE[1] + 0.5)
TAIL = 0.005  # of a histogram's values on either side that are gathered in its outermost bins


def load(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The study.json of each folder that has one; raises `Corrupt` naming one that is not whole."""
    found: list[dict[str, Any]] = []
    for folder in folders:
        path = folder / FILE
        if path.is_file():
            record = read_json(path)
            if not isinstance(record, dict) or not all(key in record for key in NEEDED):
                raise Corrupt(f"{path} lacks a part of a study; it was altered.")
            found.append(record)
    return found


def section(saved: Saved, appearance: dict[str, Look], drawn: list[Picture]) -> Html | None:
    """Everything the studies say beyond the tables; None where the folders hold no study."""
    parts: list[Html] = []
    for number, record in enumerate(load(saved.folders)):
        pill = tag("span", record["word"], class_=f"pill {PILLS.get(record['word'], 'none')}")
        facts = (("asked", record["question"]), ("published", f"{record['published']} ({record['source']})"))
        parts += [
            tag("dl", *(join([tag("dt", name), tag("dd", said)]) for name, said in facts), class_="facts"),
            paragraph(pill, " ", record["sentence"]),
        ]
        figures: list[Html] = []
        for panel in record["panels"]:
            picture = picture_of(panel, f"{record['study']}-{number}-{panel['name']}", appearance)
            drawn.append(picture)
            said = f"{panel['title']}. {panel['caption']}".strip()
            figures.append(tag("figure", picture.inline(), tag("figcaption", said)))
        parts.append(tag("div", *figures, class_="pictures"))
        parts += [table(t["head"], t["rows"], t["title"]) for t in record["tables"]]
    return join(parts) if parts else None


def picture_of(panel: dict[str, Any], name: str, appearance: dict[str, Look]) -> Picture:
    """One panel as a picture that follows the theme. A series "gated: variant" has gated's colour, open and dotted."""
    series = panel["series"]
    arms = list(dict.fromkeys(s["arm"].split(":")[0] for s in series))
    known = {**looks([arm for arm in arms if arm not in appearance], {}), **appearance}

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        for each in series:
            look = known[each["arm"].split(":")[0]]
            DRAW[panel["kind"]](ax, each, look, palette, panel)
        _axes(ax, panel, palette)

    shown = "; ".join(_said(panel["kind"], s) for s in series)
    return Picture(name, f"{panel['title']}: {shown}.", WIDER if len(series) > BESIDE else WIDE, draw)


def _said(kind: str, series: dict[str, Any]) -> str:
    values = [v for v in series["y"] if math.isfinite(v)]
    if not values:
        return f"{series['arm']}: nothing"
    if kind == "histogram":
        return f"{series['arm']}: median {np.median(values):.3g} of {len(values)}"
    return f"{series['arm']}: {min(values):.3g} to {max(values):.3g}"


def _lines(ax: Axes, series: dict[str, Any], look: Look, palette: Palette, panel: dict[str, Any]) -> None:
    colour, variant = palette[look.colour], ":" in series["arm"]
    style = (0, (1, 2)) if variant else (0, (4, 2)) if look.control else "-"
    order = np.argsort(series["x"])
    x, y = (np.asarray(series[key], dtype=np.float64)[order] for key in ("x", "y"))
    joined = panel["kind"] == "lines"
    ax.plot(
        x, y, linestyle=style if joined else "none", marker=look.marker, color=colour, label=series["arm"],
        markerfacecolor=palette["card"] if variant or look.control else colour, linewidth=1.5, markersize=4.6,
    )  # fmt: skip
    if series["lo"]:
        low, high = (np.asarray(series[key], dtype=np.float64)[order] for key in ("lo", "hi"))
        ax.vlines(x, low, high, colors=colour, linewidth=2.2, alpha=0.5)
    if panel["kind"] == "points":
        for at, label in zip(zip(series["x"], series["y"], strict=True), series["labels"], strict=False):
            ax.annotate(label, at, (5, 3), textcoords="offset points", fontsize=7, color=palette["quiet"])


def _bars(ax: Axes, series: dict[str, Any], look: Look, palette: Palette, panel: dict[str, Any]) -> None:
    place = np.arange(len(ax.patches), len(ax.patches) + len(series["y"]))
    ax.barh(place, series["y"], height=0.62, color=palette[look.colour], alpha=0.55)
    if series["lo"]:
        ax.hlines(place, series["lo"], series["hi"], colors=palette["ink"], linewidth=1.2)
    old = [text.get_text() for text in ax.get_yticklabels()] if place[0] else []
    ax.set_yticks(np.arange(len(old) + len(place)), [*old, *(series["labels"] or [series["arm"]] * len(place))])


def _histogram(ax: Axes, series: dict[str, Any], look: Look, palette: Palette, panel: dict[str, Any]) -> None:
    everything = np.concatenate([np.asarray(s["y"], dtype=np.float64) for s in panel["series"]])
    low, high = np.quantile(everything, [TAIL, 1 - TAIL]) if everything.size else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, N_BINS + 1)
    values = np.clip(np.asarray(series["y"], dtype=np.float64), edges[0], edges[-1])
    share = np.histogram(values, edges)[0] / max(len(values), 1)
    colour = palette[look.colour]
    if len(panel["series"]) <= FILLED:
        ax.stairs(share, edges, fill=True, color=colour, alpha=0.18, linewidth=0)
    style = "--" if look.control or ":" in series["arm"] else "-"
    ax.stairs(share, edges, color=colour, linewidth=1.3, linestyle=style, label=series["arm"])


DRAW = {"lines": _lines, "points": _lines, "bars": _bars, "histogram": _histogram}


def _axes(ax: Axes, panel: dict[str, Any], palette: Palette) -> None:
    across = panel["kind"] in ("bars", "histogram")
    if panel["line"] is not None:
        mark = ax.axvline if across else ax.axhline
        mark(panel["line"], color=palette["ink"], linewidth=0.9, linestyle=(0, (1, 2)))
    for wanted, scale, axis, limits in (
        (panel["x_log"], ax.set_xscale, ax.xaxis, ax.get_xlim),
        (panel["y_log"], ax.set_yscale, ax.yaxis, ax.get_ylim),
    ):
        if wanted:
            scale("log")
            plain_log(axis, limits())
    if panel["kind"] == "bars":
        ax.invert_yaxis()
        ax.grid(axis="x", linewidth=0.6)
    else:
        if not panel["y_log"]:
            ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.grid(axis="y", linewidth=0.6)
        if len(panel["series"]) > BESIDE:
            ax.figure.legend(frameon=False, fontsize=7.5, loc="outside right upper")  # type: ignore[union-attr]
        elif panel["series"]:
            ax.legend(frameon=False, fontsize=7.5, ncols=2 if len(panel["series"]) > 5 else 1)
    ax.set_axisbelow(True)
    ax.set_xlabel(panel["x"])
    ax.set_ylabel(panel["y"])
