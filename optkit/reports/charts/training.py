"""Charts and a table of the trainings of a run: losses and metric, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optkit import units
from optkit.records.run import Run, StageRecord, TrainingFacts
from optkit.reports import summary, svg
from optkit.reports.sheet import Cell, Sheet
from optkit.reports.svg import Chart

_LINES = 6
"""The height of a chart, in lines of the other charts."""
_APART = 5.0
"""Points by which the names of two lines move apart, as the lines may end in one place."""


def training_charts(run: Run) -> list[Chart]:
    """Draw a chart for each stage that trained."""
    return [_curves(stage, number) for number, stage in enumerate(_trained(run))]


def training_sheet(run: Run) -> Sheet | None:
    """Return a row for each training: its epochs, the best of them, and the losses of that one."""
    rows = [_row(stage, course) for stage in _trained(run) for course in stage.trainings if course.epochs]
    columns = ["stage", "training", "epochs", "best", "held-out loss", "metric", "learning rate", "time"]
    return Sheet(columns, rows) if rows else None


def _trained(run: Run) -> Iterator[StageRecord]:
    """Return the stages that trained; a stage that targets share comes once."""
    stages = {stage.key: stage for branch in run.branches for stage in branch.stages}
    return (stage for stage in stages.values() if stage.trainings)


def _row(stage: StageRecord, course: TrainingFacts) -> list[Cell]:
    best = course.kept
    early = ", stopped early" if course.stopped_early else ""
    texts = [
        summary.stage_title(stage),
        course.label,
        f"{len(course.epochs)}{early}",
        "start" if best is None else str(best.epoch),
        units.UNKNOWN if best is None else f"{best.held_out:.4g}",
        f"{course.metric} {units.quality(best.metric)}" if best and best.metric is not None else units.UNKNOWN,
        f"{course.learning_rate:g}",
        units.seconds(course.epochs[-1].seconds),
    ]
    return [Cell(text) for text in texts]


def _curves(stage: StageRecord, number: int) -> Chart:
    courses = [course for course in stage.trainings if course.epochs]
    points = [(course, epoch) for course in courses for epoch in course.epochs]
    metric = courses[0].metric if courses else None
    metrics = [epoch.metric for _, epoch in points if epoch.metric is not None]
    measured = metric is not None and len(metrics) == len(points)

    def draw(figure: Figure) -> None:
        losses, *others = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
        steps = list(range(1, len(points) + 1))
        learnt, watched = [epoch.loss for _, epoch in points], [epoch.held_out for _, epoch in points]
        lift = _APART if learnt[-1] >= watched[-1] else -_APART
        _line(losses, steps, learnt, svg.BASELINE, "training", lift)
        _line(losses, steps, watched, svg.SERIES, "held out", -lift)
        losses.set_title("loss", fontsize=9, loc="left")
        for axes in others:
            _line(axes, steps, metrics, svg.SERIES, "held out")
            axes.set_title(f"{metric} on held-out data", fontsize=9, loc="left")
        for axes in (losses, *others):
            _finish(axes, courses)

    title = f"Training: {summary.stage_title(stage)}"
    cuts = "; dashed lines are where it was cut again" if len(courses) > 1 else ""
    caption = f"Epoch by epoch{cuts}. The weights kept are those with the least held-out loss, marked by a dot."
    words = "; ".join(
        f"{course.label}, epoch {epoch.epoch}: loss {epoch.loss:.4g}, held out {epoch.held_out:.4g}"
        for course, epoch in points
    )
    return Chart(title, caption, svg.svg(f"training-{number}", title, words, draw, _LINES))


def _line(axes: Any, steps: list[int], values: list[float], colour: str, name: str, lift: float = 0.0) -> None:
    axes.plot(steps, values, color=colour, linewidth=1.8, label=name, marker=".", markersize=4)
    end = {"xytext": (6, lift), "textcoords": "offset points", "va": "center", "color": colour, "fontsize": 8}
    axes.annotate(name, (steps[-1], values[-1]), **end)


def _finish(axes: Any, courses: list[TrainingFacts]) -> None:
    """Mark whole epochs, the border between two trainings, and the weights that were kept."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    start = 0
    held_out = axes.lines[-1]
    for course in courses:
        if start:
            axes.axvline(start + 0.5, color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if course.best:
            step = start + course.best
            axes.plot([step], [held_out.get_ydata()[step - 1]], marker="o", markersize=6, color=svg.SERIES)
        start += len(course.epochs)
    axes.set_xlim(0.7, max(start, 1) * 1.2 + 0.3)
