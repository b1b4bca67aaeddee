"""``optkit compare``."""

from __future__ import annotations

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.errors import FAILED
from optkit.options.verbs.compare import CompareCommand


@derived(CompareCommand)
def compare(ctx: typer.Context, options: CompareCommand) -> None:
    """Compare, and show the figures; exit code 1 where a model failed."""
    from optkit.cli.tables.comparison import comparison_blocks
    from optkit.verbs.compare import compare as verb

    console = console_of(ctx)
    comparison = carried_out(ctx, verb, options)
    console.notes(comparison.notes)
    console.answer(comparison, lambda: comparison_blocks(comparison))
    if any(row.status == "failed" for row in comparison.rows):
        raise typer.Exit(FAILED)
