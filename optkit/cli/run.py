"""``optkit run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from optkit import errors
from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.cli.tables import gate
from optkit.options.verbs.run import RunCommand

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.run import Branch, Run


@derived(RunCommand)
def run(ctx: typer.Context, options: RunCommand) -> None:
    """Run, show the results, and exit by the gate's verdict."""
    from optkit.reports import summary
    from optkit.runs import run_folder
    from optkit.verbs.run import run as verb

    console = console_of(ctx)
    folder = options.output or run_folder.default(options.recipe)
    record = carried_out(ctx, verb, options.model_copy(update={"output": folder}))
    console.notes(summary.all_notes(record))
    console.answer(record, lambda: _blocks(record, folder))
    if record.gate is not None:
        gate.announce(record.gate, summary.all_notes(record), console)
    raise typer.Exit(_exit_code(record))


def _exit_code(run: Run) -> int:
    """Return the gate's exit code; where a branch failed, only a failing rule takes precedence."""
    judged = gate.exit_code(run.gate.verdict) if run.gate else errors.DONE
    failed = any(branch.status == "failed" for branch in run.branches)
    return errors.FAILED if failed and judged != errors.GATE_FAILS else judged


def _blocks(run: Run, folder: Path) -> list[Block]:
    from optkit.cli.console import Text
    from optkit.cli.tables.comparison import comparison_blocks
    from optkit.reports import summary

    blocks = [block for branch in run.branches for block in _branch_blocks(branch)]
    if run.comparison is not None:
        blocks += comparison_blocks(run.comparison)
    if run.gate is not None:
        blocks.append(gate.rules_table(run.gate))
    blocks.append(Text(summary.headline(run), style="bold"))
    if run.gate is not None:
        blocks.append(gate.sentence(run.gate))
    return [*blocks, *(Text(line) for line in _places(folder))]


def _branch_blocks(branch: Branch) -> list[Block]:
    from optkit.cli.console import Table, Text
    from optkit.reports import summary

    sheet = summary.stages_sheet(branch)
    blocks: list[Block] = [Table(sheet.columns, sheet.rows, title=branch.target)] if sheet.rows else []
    if branch.status == "failed":
        blocks.append(Text(f"{branch.target} failed: {branch.reason}", style="red"))
    return blocks


def _places(folder: Path) -> list[str]:
    bundle = folder / "bundle"
    lines = [f"bundle: {bundle} -> {bundle.readlink()}"] if bundle.is_symlink() else []
    return [*lines, f"report: {folder / 'report.html'}"]
