"""``report``: a run's record as text."""

from __future__ import annotations

from optkit.options.calling import takes
from optkit.options.verbs.report import ReportCommand
from optkit.progress import Progress
from optkit.reports.report import render_report
from optkit.runs import run_folder
from optkit.system import atomic


@takes(ReportCommand)
def report(options: ReportCommand, progress: Progress) -> str:
    """Render the report of the run in the folder ``run``; also write it to ``output``, where one is given.

    Raises UsageError for an unknown format and an unfinished run, OutputError.
    """
    text = render_report(run_folder.read(options.run), options.format)
    if options.output is not None:
        atomic.write_text(options.output, text, force=options.force)
    return text
