"""``optkit report``."""

from __future__ import annotations

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.options.verbs.report import ReportCommand


@derived(ReportCommand)
def report(ctx: typer.Context, options: ReportCommand) -> None:
    """Report, on stdout or into a file."""
    from optkit.cli.console import Raw, Text
    from optkit.runs import run_folder
    from optkit.verbs.report import report as verb

    text = carried_out(ctx, verb, options)
    block = Raw(text) if options.output is None else Text(f"report: {options.output}")
    console_of(ctx).answer(run_folder.read(options.run), lambda: [block])
