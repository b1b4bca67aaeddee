"""``optkit gate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.cli.tables import gate as verdict
from optkit.options.verbs.gate import GateLine

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.gate import Gate


@derived(GateLine)
def gate(ctx: typer.Context, options: GateLine) -> None:
    """Judge, show the rules, write what was asked for, and exit by the verdict."""
    from optkit.reports.gate import gate_junit, gate_markdown
    from optkit.system import atomic
    from optkit.verbs.gate import gate as verb

    for path in filter(None, (options.junit, options.summary)):
        atomic.claim(path, force=True)
    retry = options.inconclusive == "retry"
    found = carried_out(ctx, verb, options.model_copy(update={"retry": retry}))
    console = console_of(ctx)
    console.notes(found.notes)
    console.answer(found, lambda: _blocks(found))
    if options.junit is not None:
        atomic.write_text(options.junit, gate_junit(found), force=True)
    if options.summary is not None:
        atomic.write_text(options.summary, gate_markdown(found, found.notes), force=True)
    verdict.announce(found, found.notes, console)
    counted = options.inconclusive if options.inconclusive in ("pass", "fail") else "inconclusive"
    raise typer.Exit(verdict.exit_code(counted if found.verdict == "inconclusive" else found.verdict))


def _blocks(gate: Gate) -> list[Block]:
    from optkit.cli.tables.comparison import comparison_blocks

    return [*comparison_blocks(gate.comparison), verdict.rules_table(gate), verdict.sentence(gate)]
