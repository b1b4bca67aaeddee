"""``optkit compile``."""

from __future__ import annotations

import typer

from optkit.cli.derive import derived
from optkit.cli.running import transform
from optkit.options.verbs.compile import CompileCommand


@derived(CompileCommand)
def compile(ctx: typer.Context, options: CompileCommand) -> None:
    """Compile, and show the bundle."""
    from optkit.verbs.compile import compile as verb

    transform(ctx, verb, options)
