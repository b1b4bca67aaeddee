"""``optkit report``."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli import options
from optkit.cli.app import console_of


def report(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.")],
    format: Annotated[str, typer.Option("--format", help="markdown, html, csv, json or junit.")] = "markdown",
    output: options.Output = None,
    force: options.Force = False,
) -> None:
    """Show the report of a run, or write it to a file."""
    from optkit.cli.console import Raw, Text
    from optkit.runs import run_folder
    from optkit.verbs.report import report as verb

    text = verb(run, format=format, output=output, force=force)
    block = Raw(text) if output is None else Text(f"report: {output}")
    console_of(ctx).answer(run_folder.read(run), lambda: [block])
