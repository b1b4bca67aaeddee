"""A run as one self-contained HTML page: no script, no request, pictures inline."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from optkit.records.run import Run
from optkit.reports import search_summary, summary
from optkit.reports.charts import run as run_module
from optkit.reports.charts import search, training
from optkit.reports.charts.training import training_sheet


def render(run: Run) -> str:
    """Return the page. Everything out of the record is escaped."""
    environment = Environment(
        loader=PackageLoader("optkit", "reports/formats"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    drawn = run_module.run_charts(run) + training.training_charts(run) + search.search_charts(run)
    pictures = [(chart, Markup(chart.svg)) for chart in drawn]  # noqa: S704  our own drawing
    template = environment.get_template("report.html.jinja")
    text: str = template.render(
        run=run,
        summary=summary,
        searched=search_summary,
        trainings=training_sheet(run),
        pictures=pictures,
        chosen=summary.chosen(run),
    )
    return text
