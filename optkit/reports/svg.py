"""Charts for a report: axes, marks and labels, and the SVG element for a page.

Colours and fonts are the page's: matplotlib draws with stand-ins, and these become CSS variables, so that one chart
is readable on light and on dark. Same drawing, same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, MUTED, GRID, GOOD, BAD, BASELINE, SERIES, SURFACE = (
    "#010101", "#020202", "#030303", "#040404", "#050505", "#060606", "#070707", "#080808",
)  # fmt: skip
_VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", GOOD: "var(--good)", BAD: "var(--bad)",
    BASELINE: "var(--baseline)", SERIES: "var(--series)", SURFACE: "var(--surface)",
}  # fmt: skip
_SETTINGS: Any = {
    "svg.hashsalt": "optkit", "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9, "text.color": INK, "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "xtick.color": GRID,
    "xtick.labelcolor": MUTED, "ytick.color": GRID, "ytick.labelcolor": INK, "grid.color": GRID,
    "grid.linewidth": 0.6, "axes.linewidth": 0.6, "text.parse_math": False,
}  # fmt: skip
_WIDTH = 7.4
RATIOS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Chart:
    """A chart for a page."""

    title: str
    """The heading."""
    caption: str
    """The legend below it."""
    svg: str
    """The ``<svg>`` element."""


def lines(figure: Figure, names: Sequence[str]) -> Any:
    """Add axes with a line for each name, from the top."""
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    return axes


def ticks(axes: Any, ticks: Sequence[float], text: Callable[[float], str]) -> None:
    """Set the ticks of the horizontal axis, labelled by ``text``."""
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def dot(axes: Any, number: int, value: float, low: float, high: float, colour: str) -> None:
    """Draw a value as a dot with its interval on line ``number``."""
    axes.plot([low, high], [number, number], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.55)
    axes.plot([value], [number], marker="o", markersize=7, color=colour, markeredgecolor=SURFACE, markeredgewidth=1.4)


def label(axes: Any, x: float, number: int, text: str) -> None:
    """Write ``text`` right of ``x`` on line ``number``."""
    behind = {"facecolor": SURFACE, "edgecolor": "none", "pad": 1.5}
    axes.annotate(text, (x, number), xytext=(8, 0), textcoords="offset points", va="center", color=INK, bbox=behind)


def svg(name: str, title: str, words: str, draw: Callable[[Figure], None], lines: int, *, inches: float = 0.36) -> str:
    """Return the chart as an ``<svg>`` element with ``title`` and, for screen readers, ``words``.

    Nothing in it differs between two runs. ``name`` is unique in a page; the height follows from ``lines``.
    """
    out = io.StringIO()
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH, 0.55 + inches * lines), layout="constrained", facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _embedded(out.getvalue(), name, title, words)


def _embedded(text: str, name: str, title: str, words: str) -> str:
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # Several pictures share a page: their ids must not.
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", body)
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, variable)
    head = (
        f'<svg role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="{_attribute(body, "viewBox")}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(words)}</desc>'
    )
    return head + body[body.index(">") + 1 :].strip()


def _attribute(text: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', text)
    return found.group(1) if found else f"0 0 {math.ceil(_WIDTH * 72)} 200"
