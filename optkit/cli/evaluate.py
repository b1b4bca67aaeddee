"""``optkit evaluate``."""

from __future__ import annotations

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.options.verbs.evaluate import EvaluateCommand


@derived(EvaluateCommand)
def evaluate(ctx: typer.Context, options: EvaluateCommand) -> None:
    """Evaluate, and show the quality."""
    from optkit.cli.tables.comparison import evaluation_blocks
    from optkit.verbs.evaluate import evaluate as verb

    console = console_of(ctx)
    evaluation = carried_out(ctx, verb, options)
    console.notes(evaluation.row.notes)
    console.answer(evaluation, lambda: evaluation_blocks(evaluation))
