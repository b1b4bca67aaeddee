"""Charts of a run as SVG elements for a page: same record, same bytes."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from optkit import units
from optkit.records import sentences
from optkit.records.comparison import Comparison, Row
from optkit.records.run import Run
from optkit.reports import summary, svg
from optkit.reports.svg import Chart


def run_charts(run: Run) -> list[Chart]:
    """Draw all charts that the record has the figures for."""
    drawn: list[Chart | None] = []
    if run.comparison is not None:
        drawn += [_speedup(run.comparison), _latency(run.comparison), _quality(run.comparison)]
    return [chart for chart in [*drawn, _size(run)] if chart is not None]


def _speedup(comparison: Comparison) -> Chart | None:
    rows = [row for row in comparison.rows if row.speedup is not None]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        axes = svg.lines(figure, [row.title for row in rows])
        ends = [end for row in rows if row.speedup for end in (row.speedup.low, row.speedup.high)]
        low, high = min(0.9, *ends) / 1.06, max(1.1, *ends) * 1.25
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        svg.ticks(axes, [tick for tick in svg.RATIOS if low < tick < high], units.ratio)
        axes.axvline(1.0, color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for number, row in enumerate(rows):
            colour = {"faster": svg.GOOD, "slower": svg.BAD}.get(row.speed_verdict or "", svg.MUTED)
            if row.speedup:
                svg.dot(axes, number, row.speedup.value, row.speedup.low, row.speedup.high, colour)
                svg.label(axes, row.speedup.high, number, units.ratio(row.speedup.value))

    name = comparison.rows[0].title
    caption = f"Time of the baseline ({name}) over each model's: right of 1 is faster. Bars are 95 % intervals."
    words = "; ".join(f"{row.title}: {sentences.speed(row)}" for row in rows)
    return Chart("Speed-up", caption, svg.svg("speedup", "Speed-up over the baseline", words, draw, len(rows)))


def _latency(comparison: Comparison) -> Chart | None:
    rows = [row for row in comparison.rows if row.latency is not None and row.latency.histogram_counts]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        axes = svg.lines(figure, [row.title for row in rows])
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
    return Chart(
        "Latency", caption, svg.svg("latency", "Distribution of latencies", words, draw, len(rows), inches=0.58)
    )


def _quality(comparison: Comparison) -> Chart | None:
    rows = [row for row in comparison.rows if row.quality is not None]
    if not rows or rows[0].quality is None:
        return None
    first = rows[0].quality

    def draw(figure: Figure) -> None:
        axes = svg.lines(figure, [row.title for row in rows])
        values = [row.quality.value for row in rows if row.quality]
        bound = _bound(comparison)
        ends = [end for value in values for end in (value.low, value.high)] + ([] if bound is None else [bound])
        room = 0.08 * (max(ends) - min(ends) or 0.1)
        axes.set_xlim(min(ends) - room, max(ends) + 3 * room)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.axvline(first.value.value, color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if bound is not None:
            axes.axvline(bound, color=svg.BAD, linewidth=1)
        for number, (row, value) in enumerate(zip(rows, values, strict=True)):
            colour = (
                svg.BAD if sentences.beyond(row, comparison.max_drop) else svg.BASELINE if row.baseline else svg.SERIES
            )
            svg.dot(axes, number, value.value, value.low, value.high, colour)
            svg.label(axes, value.high, number, units.quality(value.value))

    better = "higher" if first.higher_is_better else "lower"
    bound = "; the solid line is the bound" if _bound(comparison) is not None else ""
    caption = (
        f"{first.metric} over {units.count(first.count)} samples, {better} is better; the dashed line is the "
        f"baseline{bound}. Bars are 95 % intervals of each value; all saw the same samples, so the loss in the table "
        f"is known better than two bars apart would show."
    )
    words = "; ".join(f"{row.title}: {units.quality(row.quality.value.value)}" for row in rows if row.quality)
    return Chart("Quality", caption, svg.svg("quality", f"Quality: {first.metric}", words, draw, len(rows)))


def _size(run: Run) -> Chart | None:
    bars = [("as it came", run.model.size_bytes, svg.BASELINE)] + [
        (f"{target}: {title}" if target else title, size, svg.SERIES) for target, title, size in _sizes(run)
    ]
    if len(bars) == 1:
        return None

    def draw(figure: Figure) -> None:
        axes = svg.lines(figure, [name for name, _, _ in bars])
        axes.set_xlim(0, max(size for _, size, _ in bars) * 1.18)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.size(value)))
        for number, (_, size, colour) in enumerate(bars):
            axes.barh(number, size, height=0.56, color=colour, linewidth=0)
            svg.label(axes, size, number, units.size(size))

    words = "; ".join(f"{name}: {units.size(size)}" for name, size, _ in bars)
    return Chart(
        "Size", "Bytes on disk after each stage.", svg.svg("size", "Size after each stage", words, draw, len(bars))
    )


def _sizes(run: Run) -> list[tuple[str | None, str, int]]:
    """Return target, stage and bytes of every result; a result that targets share comes once."""
    stages = {stage.key: stage for branch in run.branches for stage in branch.stages}
    return [(stage.target, summary.stage_title(stage), stage.result.size_bytes) for stage in stages.values()]


def _bound(comparison: Comparison) -> float | None:
    """Return the worst value of the metric that ``max_drop`` allows; ``None`` without a bound."""
    quality = comparison.rows[0].quality
    if quality is None or comparison.max_drop is None:
        return None
    return quality.value.value - comparison.max_drop * (1 if quality.higher_is_better else -1)


def _ridge(axes: Any, number: int, row: Row) -> None:
    """Draw a histogram that stands on the row's line."""
    latency = row.latency
    if latency is None:
        return
    colour = svg.BASELINE if row.baseline else svg.SERIES
    peak = max(latency.histogram_counts) or 1
    heights = [number + 0.3 - 0.85 * count / peak for count in latency.histogram_counts]
    axes.stairs(
        heights, latency.histogram_edges, baseline=number + 0.3, fill=True, color=colour, alpha=0.45, linewidth=0
    )
    axes.plot([latency.median] * 2, [number + 0.3, number - 0.55], color=colour, linewidth=1.8)
