"""The pictures: sparsity against fidelity, γ against sparsity, firing frequencies, and metrics along training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from assay.report.canvas import Look, Palette, Picture
from assay.report.saved import Row
from assay.report.words import metric as describe
from assay.report.words import number

WIDE = (5.4, 3.9)
SMALL = (2.9, 1.95)
NEVER = -1.0  # where dead latents stand, in decades left of the rarest that fires


@dataclass
class Curve:
    """One arm in one picture, sorted by L0: pooled points with intervals, and the single dictionaries behind them."""

    arm: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]
    seeds: list[tuple[float, float]]


def curves(rows: Sequence[Row], singles: Sequence[Row], name: str) -> list[Curve]:
    """The curves of one metric; rows without a value or without L0 have no place in the picture."""
    found: dict[str, Curve] = {}
    for row in sorted(rows, key=lambda r: r.l0 or 0.0):
        value, l0 = row.value(name), row.l0
        if value is None or l0 is None or l0 <= 0:
            continue
        curve = found.setdefault(row.arm, Curve(row.arm, [], [], [], [], []))
        outcome = row.cells[name]
        curve.x.append(l0)
        curve.y.append(value)
        curve.low.append(outcome.lo if outcome.lo is not None and math.isfinite(outcome.lo) else value)
        curve.high.append(outcome.hi if outcome.hi is not None and math.isfinite(outcome.hi) else value)
    for row in singles:
        value, l0 = row.value(name), row.l0
        if row.arm in found and value is not None and l0:
            found[row.arm].seeds.append((l0, value))
    return list(found.values())


def against_l0(
    picture: str, name: str, drawn: list[Curve], looks: dict[str, Look], line: float | None = None
) -> tuple[Picture, list[str]]:
    """One metric against L0; also the arms that leave the frame, which is fitted to what was learned."""
    order = [arm for arm in looks if any(c.arm == arm for c in drawn)]
    drawn = sorted(drawn, key=lambda c: order.index(c.arm))
    low, high, log = frame(drawn, looks, name, line)
    outside = [c.arm for c in drawn if any(y < low or y > high for y in c.y)]

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        ax.set_xscale("log")
        if log:
            ax.set_yscale("log")
        ax.set_ylim(low, high)
        if line is not None:
            ax.axhline(line, color=palette["ink"], linewidth=0.9, linestyle=(0, (1, 2)))
        for curve in drawn[::-1]:
            _one(ax, curve, looks[curve.arm], palette)
        xs = [x for c in drawn for x in c.x]
        ax.set_xlim(min(xs) / 1.18, max(xs) * 1.18)
        plain_log(ax.xaxis, ax.get_xlim())
        if log:
            plain_log(ax.yaxis, (low, high))
        else:
            ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.grid(axis="y", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel("L0, active latents a token (log scale)")
        ax.set_ylabel(describe(name).label + (" (log scale)" if log else ""))
        _label(ax, drawn, looks, palette, (low, high), log)

    said = "; ".join(f"{c.arm} from {number(c.y[0])} at L0 {number(c.x[0], 'count')} to {number(c.y[-1])} at "
                     f"L0 {number(c.x[-1], 'count')}" for c in drawn)  # fmt: skip
    return Picture(picture, f"{describe(name).label} against L0: {said}.", WIDE, draw), outside


def frame(drawn: list[Curve], looks: dict[str, Look], name: str, line: float | None) -> tuple[float, float, bool]:
    """(bottom, top, log?) of the vertical axis: all that was learned, and controls as far as they do not squash it."""
    learned = [c for c in drawn if not looks[c.arm].control] or drawn
    bounds = [v for c in learned for v in (*c.low, *c.high)] + ([line] if line is not None else [])
    everything = [v for c in drawn for v in (*c.low, *c.high)] + bounds
    bottom, top = min(bounds), max(bounds)
    if name == "fvu" and bottom > 0:
        highest = min(max(everything), max(1.0, top))
        lowest = max(min(everything), bottom / 4)
        if highest / lowest > 6:
            return lowest / 1.12, highest * 1.12, True
        return max(0.0, lowest - 0.06 * (highest - lowest)), highest + 0.06 * (highest - lowest), False
    span = max(top - bottom, 1e-3 + 0.02 * abs(top))
    low = max(min(everything), bottom - 1.2 * span)
    high = min(max(everything), top + 0.6 * span)
    pad = 0.06 * max(high - low, 1e-3)
    return low - pad, high + pad, False


def _one(ax: Axes, curve: Curve, look: Look, palette: Palette) -> None:
    colour = palette[look.colour]
    size, width, style = (3.6, 1.0, (0, (4, 2))) if look.control else (5.2, 1.7, "-")
    over = 2 if look.control else 3
    ax.plot(curve.x, curve.y, linestyle=style, linewidth=width, color=colour, alpha=0.75, zorder=over)
    ax.vlines(
        curve.x,
        curve.low,
        curve.high,
        colors=colour,
        linewidth=2.4 if not look.control else 1.2,
        alpha=0.55,
        zorder=over,
    )
    if curve.seeds:
        xs, ys = zip(*curve.seeds, strict=True)
        ax.plot(
            xs,
            ys,
            linestyle="none",
            marker=look.marker,
            markersize=2.6,
            color=colour,
            alpha=0.45,
            markeredgewidth=0,
            zorder=over,
        )
    face = palette["card"] if look.control else colour
    ax.plot(curve.x, curve.y, linestyle="none", marker=look.marker, markersize=size, color=face, markeredgecolor=colour,
            markeredgewidth=0.9, zorder=over + 1)  # fmt: skip


def _label(
    ax: Axes, drawn: list[Curve], looks: dict[str, Look], palette: Palette, bounds: tuple[float, float], log: bool
) -> None:
    """Write each arm's name at the right, level with the end of its curve, pushed apart where names would touch."""
    low, high = (math.log(v) for v in bounds) if log else bounds
    ends: list[tuple[float, Curve]] = []
    for curve in drawn:
        y = math.log(max(curve.y[-1], 1e-12)) if log else curve.y[-1]
        share = (y - low) / (high - low)
        if -0.001 <= share <= 1.001:
            ends.append((share, curve))
    ends.sort(key=lambda e: e[0])
    places = spread([share for share, _ in ends], 0.06)
    for (_, curve), place in zip(ends, places, strict=True):
        colour = palette[looks[curve.arm].colour]
        ax.annotate(
            curve.arm, xy=(curve.x[-1], curve.y[-1]), xycoords="data", xytext=(1.03, place), textcoords="axes fraction",
            va="center", ha="left", color=colour, annotation_clip=False, fontsize=8.5,
            fontweight="normal" if looks[curve.arm].control else "bold",
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "lw": 0.7, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places nearest to the wanted ones (ascending, least squares) at least `gap` apart, and not above 1."""
    blocks: list[tuple[float, int]] = []  # (sum of wanted − offset, count): a block sits at its mean
    for index, value in enumerate(wanted):
        total, count = value - index * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    places = [total / count for total, count in blocks for _ in range(count)]
    places = [place + index * gap for index, place in enumerate(places)]
    over = max(0.0, places[-1] - 1.0) if places else 0.0
    return [place - over for place in places]


def plain_log(axis: Axis, limits: tuple[float, float]) -> None:
    """Ticks of a log axis as plain numbers: at 1, 2, 5 while the range is short, at decades where it is long."""
    decades = math.log10(limits[1] / limits[0])
    subs = (1, 2, 5) if decades < 2.6 else (1, 3) if decades < 4 else (1,)
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    axis.set_minor_locator(LogLocator(10, subs=tuple(range(1, 10)), numticks=40))
    axis.set_minor_formatter(NullFormatter())


def firing(picture: str, arm: str, look: Look, frequency: Sequence[float], edges: np.ndarray, top: float) -> Picture:
    """Histogram of log10 firing frequency of one dictionary; latents that never fired stand apart at the left."""
    values = np.asarray(frequency, dtype=np.float64)
    counts = histogram(values, edges)
    dead = float((values <= 0).mean()) if values.size else 0.0

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        colour = palette[look.colour]
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.32, linewidth=0)
        ax.stairs(counts, edges, color=colour, linewidth=1.2, linestyle="--" if look.control else "-")
        ax.bar([edges[0] + NEVER], [dead], width=0.34, color=palette["quiet"], alpha=0.55)
        if dead > 0:
            ax.annotate(
                f"{100 * dead:.3g} %", (edges[0] + NEVER, min(dead, top)), (0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=7.5, color=palette["quiet"], annotation_clip=False,
            )  # fmt: skip
        for at in (-2, -1):
            ax.axvline(at, color=palette["rule"], linewidth=0.8, zorder=0)
        ax.set_xlim(edges[0] + NEVER - 0.4, 0.05)
        ax.set_ylim(0, top * 1.02)
        whole = [
            t for t in range(math.ceil(edges[0]), 1) if (t - math.ceil(edges[0])) % (2 if edges[0] < -4 else 1) == 0
        ]
        names = {-2: "1 %", -1: "10 %", 0: "100 %"}
        ax.set_xticks(
            [edges[0] + NEVER, *whole], ["never", *(names.get(t, f"{10.0 ** (t + 2):.10g} %") for t in whole)]
        )
        ax.tick_params(axis="x", labelsize=7)
        ax.yaxis.set_major_locator(MaxNLocator(3))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g} %"))

    middle = float(np.median(values[values > 0])) if (values > 0).any() else math.nan
    alt = (
        f"Firing frequencies of {arm}: {100 * dead:.1f} % of {values.size} latents never fired; median of the "
        f"others {middle:.2g}."
    )
    return Picture(picture, alt, SMALL, draw, margins=(0.15, 0.14, 0.96, 0.97))


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of all latents in each bin of log10 frequency; those below the first edge count in the first bin."""
    alive = values[values > 0]
    logs = np.clip(np.log10(alive), edges[0], edges[-1] - 1e-12)
    return np.histogram(logs, edges)[0] / max(values.size, 1)


def along_training(
    picture: str, name: str, runs: dict[str, list[list[dict[str, float]]]], looks: dict[str, Look]
) -> Picture:
    """One metric against tokens seen, a thin line a run; an arm's name stands at the end of its middle run."""
    seen = {arm: looks.get(arm, Look("control", "o", True)) for arm in runs}

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        top = max((tick["tokens"] for ticks in runs.values() for run in ticks for tick in run), default=1.0)
        scale, unit = (1e6, "million ") if top >= 2e6 else (1e3, "thousand ") if top >= 2e3 else (1.0, "")
        late: list[float] = []
        named: list[Curve] = []
        for arm, ticks in runs.items():
            look, ends = seen[arm], list[tuple[float, float]]()
            for run in ticks:
                points = [(tick["tokens"] / scale, tick[name]) for tick in run if name in tick]
                if points:
                    x, y = zip(*points, strict=True)
                    late += y[len(y) // 10 :]
                    ends.append((y[-1], x[-1]))
                    style = (0, (4, 2)) if look.control else "-"
                    ax.plot(x, y, color=palette[look.colour], linewidth=1.1, alpha=0.8, linestyle=style)
            if ends:
                y, x = sorted(ends)[len(ends) // 2]
                named.append(Curve(arm, [x], [y], [y], [y], []))
        if late:
            low, high = min(late), max(late)
            if name == "gamma":
                ax.axhline(1.0, color=palette["ink"], linewidth=0.9, linestyle=(0, (1, 2)))
                low, high = min(low, 1.0), max(high, 1.0)
            pad = 0.06 * max(high - low, 1e-3)
            if name == "fvu" and low > 0 and high / low > 6:
                ax.set_yscale("log")
                ax.set_ylim(low / 1.1, high * 1.1)
                plain_log(ax.yaxis, (low, high))
            else:
                ax.set_ylim(low - pad, high + pad)
            _label(ax, named, seen, palette, ax.get_ylim(), ax.get_yscale() == "log")
        ax.grid(axis="y", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel(f"{unit}tokens seen in training")
        ax.set_ylabel(describe(name).label)

    n = sum(len(ticks) for ticks in runs.values())
    return Picture(
        picture, f"{describe(name).label} along training of {n} runs.", WIDE, draw, margins=(0.13, 0.13, 0.85, 0.97)
    )
