"""``report``: a run's record as text."""

from __future__ import annotations

from pathlib import Path

from optkit.reports import report as reports
from optkit.runs import run_folder
from optkit.system import atomic


def report(run: str | Path, *, format: str = "markdown", output: str | Path | None = None, force: bool = False) -> str:
    """The report of the run in the folder ``run``; also written to ``output``, where one is given.

    Raises UsageError for an unknown format and an unfinished run, OutputError.
    """
    text = reports.render(run_folder.read(run), format)
    if output is not None:
        atomic.write_text(Path(output), text, force=force)
    return text
