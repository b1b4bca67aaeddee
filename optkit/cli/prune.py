"""``optkit prune``."""

from __future__ import annotations

import typer

from optkit.cli.derive import derived
from optkit.cli.running import transform
from optkit.options.verbs.prune import PruneCommand


@derived(PruneCommand)
def prune(ctx: typer.Context, options: PruneCommand) -> None:
    """Prune, and show the comparison."""
    from optkit.verbs.prune import prune as verb

    transform(ctx, verb, options)
