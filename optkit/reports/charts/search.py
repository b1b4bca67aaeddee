"""Charts of a search: speed-up against loss of every candidate, and the damage of INT8 by layer."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from optkit import units
from optkit.records.comparison import Comparison, Row
from optkit.records.layers import LayerRecord
from optkit.records.record import Interval
from optkit.records.run import Run
from optkit.records.search import SearchRecord, TrialRecord
from optkit.reports import svg
from optkit.reports.svg import Chart

_MOST_LAYERS = 20
_INCHES = 3.4


def search_charts(run: Run) -> list[Chart]:
    """Draw all charts that the record of a search has figures for; none for other runs."""
    if run.search is None or run.comparison is None:
        return []
    found = [_front(run.search, run.comparison, run.chosen), _layers(run.search)]
    return [chart for chart in found if chart is not None]


def _front(search: SearchRecord, comparison: Comparison, chosen: str | None) -> Chart | None:
    """Draw speed-up against loss: screenings as small dots, finalists with the intervals of the final comparison."""
    screened = [place for place in map(_screened, search.trials) if place]
    finals = [row for row in comparison.rows if _place(row)]
    if not screened and not finals:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for x, y in screened:
            axes.plot([x], [y], marker="o", markersize=4, color=svg.MUTED, linestyle="none", alpha=0.7)
        for row in finals:
            _cross(axes, row, svg.GOOD if row.title == chosen else svg.SERIES)
        axes.plot([1.0], [0.0], marker="s", markersize=6, color=svg.BASELINE, linestyle="none")
        axes.set_xscale("log")
        shown = screened + [place for place in map(_place, finals) if place]
        losses = [loss for _, loss in shown]
        axes.set_yscale("symlog", linthresh=_linear(losses, comparison.max_drop))
        places = [speed for speed, _ in shown]
        low, high = min(0.9, *places) / 1.1, max(1.1, *places) * 1.3
        axes.set_xlim(low, high)
        svg.ticks(axes, [tick for tick in svg.RATIOS if low < tick < high], units.ratio)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.axvline(1.0, color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if comparison.max_drop is not None:
            axes.axhline(comparison.max_drop, color=svg.BAD, linewidth=1)
        axes.set_xlabel("speed-up")
        axes.set_ylabel("loss")
        axes.grid(visible=True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)

    bound = "; the solid line is the bound" if comparison.max_drop is not None else ""
    caption = (
        "Right is faster, down is better. Small dots are short screenings on the selection samples; large ones, with "
        "95 % intervals, are the final comparison on other samples, the result in its own colour; the square is the "
        f"original model{bound}."
    )
    words = "; ".join(f"{row.title}: {units.ratio(row.speedup.value)}" for row in finals if row.speedup)
    picture = svg.svg("front", "Speed-up against loss", words, draw, 1, inches=_INCHES)
    return Chart("Speed-up against loss", caption, picture)


def _layers(search: SearchRecord) -> Chart | None:
    worst = search.sensitivity.layers[:_MOST_LAYERS] if search.sensitivity else []
    if not worst:
        return None

    def draw(figure: Figure) -> None:
        axes = svg.lines(figure, [_short(layer) for layer in worst])
        axes.set_xscale("log")
        least = min(layer.damage for layer in worst)
        axes.set_xlim(max(least, 1e-12) / 2, worst[0].damage * 3)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for number, layer in enumerate(worst):
            in_float = layer.name in search.in_float
            colour = svg.BASELINE if in_float else svg.SERIES
            axes.barh(number, layer.damage, height=0.56, color=colour, linewidth=0)
            if in_float:
                svg.label(axes, layer.damage, number, "kept in float")

    caption = "The relative error of the outputs when one layer alone is quantized to INT8, the worst first."
    words = "; ".join(f"{layer.name}: {layer.damage:.2g}" for layer in worst)
    picture = svg.svg("layers", "Damage by layer", words, draw, len(worst), inches=0.24)
    return Chart("Damage of INT8 by layer", caption, picture)


def _screened(trial: TrialRecord) -> tuple[float, float] | None:
    """Return speed-up and loss of a screening; ``None`` without both, and for a candidate of the final comparison."""
    loss = trial.row.quality.loss if trial.row.quality else None
    return (trial.speed, loss.value) if trial.speed and loss and not trial.final else None


def _place(row: Row) -> tuple[float, float] | None:
    loss = row.quality.loss if row.quality else None
    return (row.speedup.value, loss.value) if row.speedup and loss else None


def _cross(axes: object, row: Row, colour: str) -> None:
    """Draw a dot with the intervals of both figures."""
    speedup, loss = row.speedup, row.quality.loss if row.quality else None
    if speedup is None or loss is None:
        return
    axes.errorbar(  # type: ignore[attr-defined]
        [speedup.value], [loss.value], xerr=_ends(speedup), yerr=_ends(loss), marker="o", markersize=8, color=colour,
        markeredgecolor=svg.SURFACE, elinewidth=2, alpha=0.9,
    )  # fmt: skip


def _ends(interval: Interval) -> list[list[float]]:
    return [[max(0.0, interval.value - interval.low)], [max(0.0, interval.high - interval.value)]]


def _linear(losses: list[float], bound: float | None) -> float:
    """Return the loss below which the axis is linear: the bound, or the power of ten of the least loss above 0."""
    least = min((loss for loss in losses if loss > 0), default=0.01)
    return bound or 10 ** math.floor(math.log10(least))


def _short(layer: LayerRecord) -> str:
    return layer.name if len(layer.name) <= 40 else f"…{layer.name[-39:]}"
