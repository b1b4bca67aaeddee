"""``optkit explain``."""

from __future__ import annotations

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.errors import FAILED
from optkit.options.verbs.explain import ExplainCommand


@derived(ExplainCommand)
def explain(ctx: typer.Context, options: ExplainCommand) -> None:
    """Explain, and show causes and what to try; exit code 1 where the candidate failed."""
    from optkit.cli.tables.speed_explanation import explanation_blocks
    from optkit.verbs.explain import explain as verb

    console = console_of(ctx)
    found = carried_out(ctx, verb, options)
    console.notes(found.notes)
    console.answer(found, lambda: explanation_blocks(found))
    if found.speed is not None and found.speed.candidate is None:
        raise typer.Exit(FAILED)
