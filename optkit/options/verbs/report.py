"""Options of ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.option import Spelling
from optkit.options.source import ResultOption


class ReportCommand(ResultOption):
    """All options of the verb."""

    group: ClassVar[str] = "Report"

    run: Annotated[str | Path, Spelling(argument=True, metavar="RUN")] = Field(description="Folder of a run.")
    format: str = Field("markdown", description="markdown, html, csv, json or junit.")
