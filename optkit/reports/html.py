"""A run as one HTML page that needs nothing else: no script, no request, pictures inline."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from optkit import charts, searchcharts, searchsummary, summary, traincharts
from optkit.records.run import Run


def render(run: Run) -> str:
    """The page. Everything out of the record is escaped."""
    environment = Environment(
        loader=PackageLoader("optkit", "reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    drawn = charts.charts(run) + traincharts.charts(run) + searchcharts.charts(run)
    pictures = [(chart, Markup(chart.svg)) for chart in drawn]  # noqa: S704  our own drawing
    template = environment.get_template("report.html.jinja")
    text: str = template.render(
        run=run,
        summary=summary,
        searched=searchsummary,
        trainings=traincharts.sheet(run),
        pictures=pictures,
        chosen=summary.chosen(run),
    )
    return text
