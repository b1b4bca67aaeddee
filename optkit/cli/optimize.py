"""``optkit optimize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.errors import FAILED
from optkit.options.verbs.optimize import OptimizeCommand

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.run import Run


@derived(OptimizeCommand)
def optimize(ctx: typer.Context, options: OptimizeCommand) -> None:
    """Search, and show what was tried; exit code 1 where nothing keeps the limits."""
    from optkit.reports import summary
    from optkit.verbs.optimize import optimize as verb

    console = console_of(ctx)
    record = carried_out(ctx, verb, options)
    console.notes(summary.all_notes(record))
    console.answer(record, lambda: _blocks(record, options.output))
    if any(note.kind == "limits" for note in record.notes):
        raise typer.Exit(FAILED)


def _blocks(run: Run, output: Path) -> list[Block]:
    from optkit.cli.console import Table, Text
    from optkit.cli.tables.comparison import comparison_blocks
    from optkit.reports import search_summary, summary
    from optkit.search import journal

    blocks: list[Block] = []
    if run.search is not None:
        sheet = search_summary.trials_sheet(run.search)
        blocks += [Table(sheet.columns, sheet.rows, title="tried"), Text(search_summary.ended(run.search))]
    if run.comparison is not None:
        blocks += [Text("on samples that no decision has used:", style="bold"), *comparison_blocks(run.comparison)]
    folder = journal.beside(output)
    places = [f"recipe: {folder / 'recipe.yaml'}", f"report: {folder / 'report.html'}"]
    delivered = [f"bundle: {output}"] if output.exists() else []
    return [*blocks, Text(summary.headline(run), style="bold"), *(Text(line) for line in delivered + places)]
