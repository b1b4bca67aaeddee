"""``optkit distill``."""

from __future__ import annotations

import typer

from optkit.cli.derive import derived
from optkit.cli.running import transform
from optkit.options.verbs.distill import DistillCommand


@derived(DistillCommand)
def distill(ctx: typer.Context, options: DistillCommand) -> None:
    """Distill, and show the comparison."""
    from optkit.verbs.distill import distill as verb

    transform(ctx, verb, options)
