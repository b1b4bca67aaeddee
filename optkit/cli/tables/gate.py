"""A judgement on the terminal, and its exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optkit import errors

if TYPE_CHECKING:
    from optkit.cli.console import Console, Table, Text
    from optkit.notes import Note
    from optkit.records.gate import GateVerdict, Judgement

_CODES = {"pass": errors.DONE, "fail": errors.GATE_FAILS, "inconclusive": errors.GATE_INCONCLUSIVE}


def exit_code(verdict: GateVerdict) -> int:
    """Map a verdict to the exit code."""
    return _CODES[verdict]


def announce(judged: Judgement, notes: Sequence[Note], console: Console) -> None:
    """Under GitHub Actions, write the job's summary page, and an annotation for each rule that did not pass."""
    from optkit.reports.gate import gate_markdown, github_annotations

    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        with Path(page).open("a", encoding="utf-8") as stream:
            stream.write(gate_markdown(judged, notes))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(judged):
            console.raw(line)


def rules_table(judged: Judgement) -> Table:
    """Show every rule with its verdict and the reason."""
    from optkit.cli.console import Table
    from optkit.reports import summary

    sheet = summary.gate_sheet(judged)
    return Table(sheet.columns, sheet.rows)


def sentence(judged: Judgement) -> Text:
    """Show the verdict in a line."""
    from optkit.cli.console import Text
    from optkit.reports import summary

    return Text(summary.gate_line(judged), style="bold")
