"""A run as Markdown, for a pull request, an issue or a README."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from optkit.records.run import Run
from optkit.reports import search_summary, summary
from optkit.reports.charts.training import training_sheet
from optkit.reports.sheet import Sheet


def render(run: Run) -> str:
    """Return the report."""
    environment = Environment(  # noqa: S701  Markdown has no tags to escape; ``cell`` escapes the rest
        loader=PackageLoader("optkit", "reports/formats"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"sheet": _sheet, "cell": _cell, "code": _code}
    text: str = environment.get_template("report.md.jinja").render(
        run=run, summary=summary, searched=search_summary, trainings=training_sheet(run)
    )
    return text


def _sheet(sheet: Sheet) -> str:
    """Return a table in Markdown; the marked row is bold."""
    lines = [_line(sheet.columns), "|" + " --- |" * len(sheet.columns)]
    for number, row in enumerate(sheet.rows):
        cells = [_cell(cell.text) for cell in row]
        lines.append(_line([f"**{cell}**" for cell in cells] if number == sheet.marked else cells))
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    """Escape text so that it neither ends its cell nor starts a tag."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _code(text: str) -> str:
    """Write text as code, between more backticks than stand together in it."""
    line = text.replace("\n", " ")
    longest = max(map(len, re.findall("`+", line)), default=0)
    return f"{'`' * (longest + 1)} {line} {'`' * (longest + 1)}" if longest else f"`{line}`"
