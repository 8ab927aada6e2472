"""The pictures of a probing run: AUC against k, AUC along the regime, and what the pools chose."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from assay.report.canvas import Look, Palette, Picture, looks
from assay.report.markup import Html, tag
from assay.report.style import ARM_COLOURS

ALWAYS = "lr"
SHOWN = ("lr", "tfidf", "mean_difference", "pool", "pool + SAE")


def sparse_picture(told: dict[str, Any], appearance: dict[str, Look], drawn: list[Picture]) -> Html:
    """Mean AUC against k, in the setting with all labels; lr as a line."""
    name = list(told["per_task"])[-1] if told["setting"]["regime"] == "scarcity" else next(iter(told["per_task"]))
    rows = [row for row in told["rows"] if row["task"] == name and row["k"] is not None]
    if not rows:
        return Html("")
    line = next((row["mean"] for row in told["rows"] if row["task"] == name and row["arm"] == ALWAYS), None)

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        for arm in dict.fromkeys(row["arm"] for row in rows):
            mine = sorted((row for row in rows if row["arm"] == arm), key=lambda r: r["k"])
            look = appearance[arm]
            base = appearance.get(arm.removesuffix(" max"), look)  # the same columns, pooled otherwise
            style = "-" if not look.control else (0, (4, 2)) if base is look else (0, (1, 1.5))
            ax.plot([r["k"] for r in mine], [r["mean"] for r in mine], linestyle=style, marker=base.marker, color=palette[look.colour],
                    markersize=4.5, linewidth=1.4, label=arm)  # fmt: skip
        if line is not None:
            ax.axhline(line, color=palette["ink"], linewidth=0.9, linestyle=(0, (1, 2)))
            ax.annotate("lr, all coordinates", (1, line), (2, 2), textcoords="offset points", fontsize=7)
        ax.set_xscale("log", base=2)
        ticks = sorted({row["k"] for row in rows})
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.set_xlabel("k, columns that the probe may use (log scale)")
        ax.set_ylabel("mean test AUC")
        ax.grid(axis="y", linewidth=0.6)
        if many:
            ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        else:
            ax.legend(frameon=False, fontsize=7, ncols=2)

    many = len({row["arm"] for row in rows}) > 10
    picture = Picture("auc-against-k", "Mean test AUC of sparse probes against k.", (7.2 if many else 5.8, 4.0), draw)
    drawn.append(picture)
    said = (
        f"{name}. The same selector and the same k for every kind of column; the dotted line is lr on all coordinates."
    )
    return tag("figure", picture.inline(), tag("figcaption", said))


def curves(told: dict[str, Any], drawn: list[Picture]) -> Html:
    """Mean AUC along the regime's parameter, with intervals."""
    rows = [row for row in told["rows"] if row["point"] is not None]
    if not rows:
        return Html("")
    points = [row["point"] for row in rows]
    best = {
        row["arm"]
        for row in rows
        if row["arm"].endswith("best k") and row["kind"] == "sae" and " max" not in row["arm"]
    }
    chosen = [row for row in rows if row["arm"] in {*SHOWN, *best}]
    shown = list(dict.fromkeys(row["arm"] for row in chosen))
    appearance = looks(shown, {})  # of the few arms here, so that no two share a colour
    log = max(points) > 2

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        for i, arm in enumerate(shown):
            mine = sorted((row for row in chosen if row["arm"] == arm), key=lambda r: r["point"])
            look, beside = appearance[arm], i - (len(shown) - 1) / 2  # bars of several arms stand beside each other
            x = [r["point"] * 1.015**beside if log else r["point"] + 0.003 * beside * max(points) for r in mine]
            ax.plot(
                x,
                [r["mean"] for r in mine],
                marker=look.marker,
                color=palette[look.colour],
                markersize=3.4,
                linewidth=1.2,
                label=arm,
            )
            spans = [(at, r["lo"], r["hi"]) for at, r in zip(x, mine, strict=True) if r["lo"] is not None]
            if spans:
                ax.vlines(*zip(*spans, strict=True), colors=palette[look.colour], linewidth=0.9, alpha=0.5)
        if log:
            ax.set_xscale("log")
        ax.set_xlabel(told["setting"]["point_name"] or "")
        ax.set_ylabel("mean test AUC")
        ax.grid(axis="y", linewidth=0.6)
        ax.legend(
            frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4
        )  # below, off the bars

    picture = Picture("auc-along-regime", "Mean test AUC along the regime.", (5.8, 4.0), draw)
    drawn.append(picture)
    return tag("figure", picture.inline(), tag("figcaption", "Bars are 95 % intervals over tasks and seeds."))


def pool_picture(told: dict[str, Any], first: str, drawn: list[Picture]) -> Html:
    """Which arms each pool chose, as shares of tasks and seeds."""

    def draw(figure: Figure, palette: Palette) -> None:
        ax = figure.add_subplot()
        names = list(dict.fromkeys(p["pool"] for p in told["picked"] if p["task"] == first))
        arms = list(dict.fromkeys(p["arm"] for p in told["picked"] if p["task"] == first))
        for y, name in enumerate(names):
            left = 0.0
            for pick in sorted(
                (p for p in told["picked"] if (p["task"], p["pool"]) == (first, name)), key=lambda p: -p["share"]
            ):
                colour = palette[f"arm-{arms.index(pick['arm']) % len(ARM_COLOURS)}"]
                ax.barh(y, pick["share"], left=left, height=0.6, color=colour, alpha=0.6, edgecolor=palette["card"])
                if pick["share"] > 0.02 + 0.011 * len(pick["arm"]):
                    ax.text(left + pick["share"] / 2, y, pick["arm"], ha="center", va="center", fontsize=6.5)
                left += pick["share"]
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set_xlabel("share of tasks and seeds on which the pool chose the arm")

    picture = Picture("pool", "Which arms the pools chose.", (6.2, 2.6), draw)
    drawn.append(picture)
    return tag("figure", picture.inline(), tag("figcaption", "Ties are broken against the SAE."))
