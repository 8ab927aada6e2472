"""From a matplotlib figure to an inline SVG that follows the theme of the page, and to files for documents.

A picture is drawn with stand-in colours; in the SVG of the page they become CSS variables (`var(--arm-0)`), in files
the colours of the light theme. Text stays text, in the fonts of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from assay.core.artefact import atomic_write
from assay.report.markup import Html, escape
from assay.report.style import ARM_COLOURS, ARM_MARKERS, CONTROL_MARKERS, INK

_NAMES = [*INK, *(f"arm-{i}" for i in range(len(ARM_COLOURS)))]
_LIGHT = {**{k: v[0] for k, v in INK.items()}, **{f"arm-{i}": v[0] for i, v in enumerate(ARM_COLOURS)}}
_STAND_IN = {name: f"#a5{index:02x}5a" for index, name in enumerate(_NAMES)}
_RC: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "assay", "font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "font.family": "DejaVu Sans", "axes.unicode_minus": True, "xtick.major.width": 0.8, "ytick.major.width": 0.8,
    "xtick.minor.width": 0.5, "ytick.minor.width": 0.5, "xtick.major.size": 3, "ytick.major.size": 3,
    "xtick.minor.size": 1.8, "ytick.minor.size": 1.8,
}  # fmt: skip

Palette = dict[str, str]


@dataclass(frozen=True)
class Look:
    """How one arm looks in every picture of the page."""

    colour: str  # name of a CSS variable
    marker: str
    control: bool


@dataclass
class Picture:
    """A figure still to be drawn: `draw(figure, palette)` fills an empty figure using the colours of the palette."""

    name: str
    alt: str
    size: tuple[float, float]  # inches
    draw: Callable[[Figure, Palette], None]
    margins: tuple[float, float, float, float] | None = None  # left, bottom, right, top as shares of it; else fitted

    def inline(self) -> Html:
        """SVG for the page: no ids shared with other pictures, colours as CSS variables, an accessible name."""
        text = self._svg(_STAND_IN)
        for name, colour in _STAND_IN.items():
            text = text.replace(colour, f"var(--{name})")
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        text = re.sub(r'(?<= )id="([^"]+)"', rf'id="{self.name}-\1"', text)
        text = text.replace("url(#", f"url(#{self.name}-").replace('xlink:href="#', f'href="#{self.name}-')
        text = re.sub(r'<g id="[^"]*(?:_\d+|axes|xaxis|yaxis|tick|line|text|patch|figure)[^"]*">', "<g>", text)
        text = re.sub(r"font:\s*([0-9.]+)px [^;\"]*", r"font:\1px var(--sans)", text)
        text = re.sub(r"<[^>]+>", _two_digits, text)  # of coordinates only: numbers in the text of a picture stay
        text = re.sub(r"\s*\n\s*", "\n", text)
        box = re.search(r'viewBox="([^"]+)"', text)
        body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
        name = escape(self.alt)
        return Html(f'<svg viewBox="{box.group(1) if box else ""}" role="img" aria-label="{name}">{body}</svg>')

    def write(self, folder: Path) -> None:
        """The same picture as NAME.svg and NAME.png in the light theme."""
        atomic_write(folder / f"{self.name}.svg", self._svg(_LIGHT).encode())
        buffer = io.BytesIO()
        with matplotlib.rc_context(_RC):
            self._figure(_LIGHT).savefig(
                buffer, format="png", dpi=160, facecolor=_LIGHT["card"], metadata={"Software": None}
            )
        atomic_write(folder / f"{self.name}.png", buffer.getvalue())

    def _figure(self, palette: Palette) -> Figure:
        with matplotlib.rc_context({**_RC, **_theme(palette)}):
            figure = Figure(figsize=self.size, layout="constrained" if self.margins is None else None)
            if self.margins is not None:
                left, bottom, right, top = self.margins
                figure.subplots_adjust(left=left, bottom=bottom, right=right, top=top)
            figure.patch.set_alpha(0)
            self.draw(figure, palette)
        return figure

    def _svg(self, palette: Palette) -> str:
        buffer = io.StringIO()
        figure = self._figure(palette)
        with matplotlib.rc_context(_RC):
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        return buffer.getvalue()


def _two_digits(element: re.Match[str]) -> str:
    return re.sub(r"(\.\d{2})\d+", r"\1", element.group(0))


def _theme(palette: Palette) -> dict[Any, Any]:
    ink, quiet, rule = palette["ink"], palette["quiet"], palette["rule"]
    return {
        "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": quiet, "xtick.color": quiet, "ytick.color": quiet,
        "grid.color": rule, "axes.facecolor": "none",
    }  # fmt: skip


def looks(arms: list[str], roles: dict[str, str]) -> dict[str, Look]:
    """A look for each arm, the same in every picture: hue and marker for what was learned, greys for controls."""
    found: dict[str, Look] = {}
    learned = controls = 0
    for arm in arms:
        if roles.get(arm) in ("control", "floor"):
            found[arm] = Look("control", CONTROL_MARKERS[controls % len(CONTROL_MARKERS)], True)
            controls += 1
        else:
            lap, i = divmod(learned, len(ARM_COLOURS))  # a colour that comes again comes with another marker
            found[arm] = Look(f"arm-{i}", ARM_MARKERS[(i + 3 * lap) % len(ARM_MARKERS)], False)
            learned += 1
    return found


_SHAPES = {
    "o": '<circle cx="12" cy="6" r="3.6"/>',
    "s": '<rect x="8.7" y="2.7" width="6.6" height="6.6"/>',
    "^": '<path d="M12 1.8 16 9.4H8z"/>',
    "D": '<path d="M12 1.4 16.4 6 12 10.6 7.6 6z"/>',
    "v": '<path d="M12 10.2 16 2.6H8z"/>',
    "P": '<path d="M10.6 2h2.8v2.6H16v2.8h-2.6V10h-2.8V7.4H8V4.6h2.6z"/>',
    "X": '<path d="M8.4 4 10 2.4l2 2 2-2L15.6 4l-2 2 2 2L14 9.6l-2-2-2 2L8.4 8l2-2z"/>',
    "p": '<path d="M12 1.8 16.2 5 14.6 9.8H9.4L7.8 5z"/>',
}


def key(arm: str, look: Look) -> Html:
    """The arm's line and marker followed by its name, for legends and tables."""
    dash = ' stroke-dasharray="3 2"' if look.control else ""
    fill = "var(--card)" if look.control else f"var(--{look.colour})"
    svg = (
        f'<svg viewBox="0 0 24 12" aria-hidden="true"><path d="M1 6h22" fill="none" stroke="var(--{look.colour})" '
        f'stroke-width="1.6"{dash}/><g fill="{fill}" stroke="var(--{look.colour})">{_SHAPES[look.marker]}</g></svg>'
    )
    return Html(f'<span class="key">{svg}{escape(arm)}</span>')
