"""``optkit run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from optkit import errors
from optkit.cli import options
from optkit.cli.app import console_of
from optkit.cli.tables import gate

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.run import Branch, Run


def run(
    ctx: typer.Context,
    recipe: options.RecipePath,
    settings: options.Settings = None,
    output: options.Output = None,
    force: options.Force = False,
) -> None:
    """Carry out a recipe: transform, measure, choose, judge, report.

    With a gate in the recipe: exit 0 where every rule passes, 3 where one fails, 5 where the data cannot tell.
    """
    from optkit.reports import summary
    from optkit.runs import run_folder
    from optkit.verbs.run import run as verb

    console = console_of(ctx)
    folder = output or run_folder.default(recipe)
    with console.progress() as progress:
        record = verb(recipe, settings=tuple(settings or ()), output=folder, force=force, progress=progress)
    console.notes(summary.all_notes(record))
    console.answer(record, lambda: _blocks(record, folder))
    if record.gate is not None:
        gate.announce(record.gate, summary.all_notes(record), console)
    raise typer.Exit(_exit_code(record))


def _exit_code(run: Run) -> int:
    """The gate's; where a branch failed, only a rule that fails says more than that."""
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
