"""Reports: a run's record as text of a format. Each is a pure function of the record."""

from __future__ import annotations

from collections.abc import Callable

from optkit import lazy
from optkit.records.run import Run

REPORTS = {
    "markdown": "optkit.reports.formats.markdown:render",
    "html": "optkit.reports.formats.html:render",
    "json": "optkit.reports.formats.json:render",
    "junit": "optkit.reports.formats.junit:render",
    "csv": "optkit.reports.formats.csv:render",
}


def render_report(run: Run, format: str) -> str:
    """Return the report of ``run`` as text in ``format``. Raises UsageError for an unknown format."""
    renderer: Callable[[Run], str] = lazy.resolve(REPORTS, format, kind="format of reports")
    return renderer(run)
