"""Pictures of a run as SVG to be put into a page: same record, same bytes.

Colours and fonts are the page's: matplotlib draws with stand-ins, and these become CSS variables, so that one picture
is readable on light and on dark.
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
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from optkit import summary, units, wording
from optkit.results import Comparison, Row
from optkit.runs import Run

_INK, _MUTED, _GRID, _GOOD, _BAD, _BASELINE, _SERIES, _SURFACE = (
    "#010101", "#020202", "#030303", "#040404", "#050505", "#060606", "#070707", "#080808",
)  # fmt: skip
_VARIABLES = {
    _INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--grid)", _GOOD: "var(--good)", _BAD: "var(--bad)",
    _BASELINE: "var(--baseline)", _SERIES: "var(--series)", _SURFACE: "var(--surface)",
}  # fmt: skip
_SETTINGS: Any = {
    "svg.hashsalt": "optkit", "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9, "text.color": _INK, "axes.edgecolor": _GRID, "axes.labelcolor": _MUTED, "xtick.color": _GRID,
    "xtick.labelcolor": _MUTED, "ytick.color": _GRID, "ytick.labelcolor": _INK, "grid.color": _GRID,
    "grid.linewidth": 0.6, "axes.linewidth": 0.6, "text.parse_math": False,
}  # fmt: skip
_WIDTH = 7.4
_RATIOS = (0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Chart:
    """A picture with its heading and what it shows, in words."""

    title: str
    caption: str
    svg: str


def charts(run: Run) -> list[Chart]:
    """All pictures that the record has the figures for."""
    drawn: list[Chart | None] = []
    if run.comparison is not None:
        drawn += [_speedup(run.comparison), _latency(run.comparison), _quality(run.comparison)]
    return [chart for chart in [*drawn, _size(run)] if chart is not None]


def _speedup(comparison: Comparison) -> Chart | None:
    rows = [row for row in comparison.rows if row.speedup is not None]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [row.title for row in rows])
        ends = [end for row in rows if row.speedup for end in (row.speedup.low, row.speedup.high)]
        low, high = min(0.9, *ends) / 1.06, max(1.1, *ends) * 1.25
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        _ticks(axes, [tick for tick in _RATIOS if low < tick < high], units.ratio)
        axes.axvline(1.0, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for number, row in enumerate(rows):
            colour = {"faster": _GOOD, "slower": _BAD}.get(row.speed_verdict or "", _MUTED)
            if row.speedup:
                _dot(axes, number, row.speedup.value, row.speedup.low, row.speedup.high, colour)
                _label(axes, row.speedup.high, number, units.ratio(row.speedup.value))

    name = comparison.rows[0].title
    caption = f"Time of the baseline ({name}) over each model's: right of 1 is faster. Bars are 95 % intervals."
    words = "; ".join(f"{row.title}: {wording.speed(row)}" for row in rows)
    return Chart("Speed-up", caption, _svg("speedup", "Speed-up over the baseline", words, draw, len(rows)))


def _latency(comparison: Comparison) -> Chart | None:
    rows = [row for row in comparison.rows if row.latency is not None and row.latency.histogram_counts]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [row.title for row in rows])
        axes.set_ylim(len(rows) - 0.6, -0.75)
        edges = [edge for row in rows if row.latency for edge in row.latency.histogram_edges]
        low, high = min(edges), max(edges)
        if high > 6 * low:
            axes.set_xscale("log")
            axes.set_xlim(low / 1.15, high * 1.15)
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        else:
            axes.set_xlim(max(0.0, low - 0.08 * (high - low)), high + 0.08 * (high - low))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.seconds(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        for number, row in enumerate(rows):
            _ridge(axes, number, row)

    caption = "How long single inferences took; the line is the median. Heights are each model's own."
    words = "; ".join(
        f"{row.title}: median {units.seconds(row.latency.median)}, p99 {units.seconds(row.latency.p99)}"
        for row in rows
        if row.latency
    )
    return Chart("Latency", caption, _svg("latency", "Distribution of latencies", words, draw, len(rows), inches=0.58))


def _quality(comparison: Comparison) -> Chart | None:
    rows = [row for row in comparison.rows if row.quality is not None]
    if not rows or rows[0].quality is None:
        return None
    first = rows[0].quality

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [row.title for row in rows])
        values = [row.quality.value for row in rows if row.quality]
        bound = _bound(comparison)
        ends = [end for value in values for end in (value.low, value.high)] + ([] if bound is None else [bound])
        room = 0.08 * (max(ends) - min(ends) or 0.1)
        axes.set_xlim(min(ends) - room, max(ends) + 3 * room)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.axvline(first.value.value, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if bound is not None:
            axes.axvline(bound, color=_BAD, linewidth=1)
        for number, (row, value) in enumerate(zip(rows, values, strict=True)):
            colour = _BAD if wording.beyond(row, comparison.max_drop) else _BASELINE if row.baseline else _SERIES
            _dot(axes, number, value.value, value.low, value.high, colour)
            _label(axes, value.high, number, units.quality(value.value))

    better = "higher" if first.higher_is_better else "lower"
    bound = "; the solid line is the bound" if _bound(comparison) is not None else ""
    caption = (
        f"{first.metric} over {units.count(first.count)} samples, {better} is better; the dashed line is the "
        f"baseline{bound}. Bars are 95 % intervals of each value; all saw the same samples, so the loss in the table "
        f"is known better than two bars apart would show."
    )
    words = "; ".join(f"{row.title}: {units.quality(row.quality.value.value)}" for row in rows if row.quality)
    return Chart("Quality", caption, _svg("quality", f"Quality: {first.metric}", words, draw, len(rows)))


def _size(run: Run) -> Chart | None:
    bars = [("as it came", run.model.size_bytes, _BASELINE)] + [
        (f"{target}: {title}" if target else title, size, _SERIES) for target, title, size in _sizes(run)
    ]
    if len(bars) == 1:
        return None

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [name for name, _, _ in bars])
        axes.set_xlim(0, max(size for _, size, _ in bars) * 1.18)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.size(value)))
        for number, (_, size, colour) in enumerate(bars):
            axes.barh(number, size, height=0.56, color=colour, linewidth=0)
            _label(axes, size, number, units.size(size))

    words = "; ".join(f"{name}: {units.size(size)}" for name, size, _ in bars)
    return Chart(
        "Size", "Bytes on disk after each stage.", _svg("size", "Size after each stage", words, draw, len(bars))
    )


def _sizes(run: Run) -> list[tuple[str | None, str, int]]:
    """Target, stage and size of every result, what the targets share only once."""
    stages = {stage.key: stage for branch in run.branches for stage in branch.stages}
    return [(stage.target, summary.stage_title(stage), stage.result.size_bytes) for stage in stages.values()]


def _bound(comparison: Comparison) -> float | None:
    """The worst value that ``max_drop`` allows."""
    quality = comparison.rows[0].quality
    if quality is None or comparison.max_drop is None:
        return None
    return quality.value.value - comparison.max_drop * (1 if quality.higher_is_better else -1)


def _axes(figure: Figure, names: Sequence[str]) -> Any:
    """Axes with a line of its own for each name, from the top."""
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _ticks(axes: Any, ticks: Sequence[float], text: Callable[[float], str]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _dot(axes: Any, number: int, value: float, low: float, high: float, colour: str) -> None:
    axes.plot([low, high], [number, number], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.55)
    axes.plot([value], [number], marker="o", markersize=7, color=colour, markeredgecolor=_SURFACE, markeredgewidth=1.4)


def _label(axes: Any, x: float, number: int, text: str) -> None:
    behind = {"facecolor": _SURFACE, "edgecolor": "none", "pad": 1.5}
    axes.annotate(text, (x, number), xytext=(8, 0), textcoords="offset points", va="center", color=_INK, bbox=behind)


def _ridge(axes: Any, number: int, row: Row) -> None:
    """A histogram that stands on the row's line."""
    latency = row.latency
    if latency is None:
        return
    colour = _BASELINE if row.baseline else _SERIES
    peak = max(latency.histogram_counts) or 1
    heights = [number + 0.3 - 0.85 * count / peak for count in latency.histogram_counts]
    axes.stairs(
        heights, latency.histogram_edges, baseline=number + 0.3, fill=True, color=colour, alpha=0.45, linewidth=0
    )
    axes.plot([latency.median] * 2, [number + 0.3, number - 0.55], color=colour, linewidth=1.8)


def _svg(name: str, title: str, words: str, draw: Callable[[Figure], None], lines: int, *, inches: float = 0.36) -> str:
    """The picture as an ``<svg>`` element that names itself, without anything that differs between two runs."""
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
