"""``optkit export``."""

from __future__ import annotations

import typer

from optkit.cli.derive import derived
from optkit.cli.running import transform
from optkit.options.verbs.export import ExportCommand


@derived(ExportCommand)
def export(ctx: typer.Context, options: ExportCommand) -> None:
    """Export, and show what was checked."""
    from optkit.verbs.export import export as verb

    transform(ctx, verb, options)
