"""``optkit run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from optkit.cli import options
from optkit.cli.app import console_of

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.runs import Branch, Run


def run(
    ctx: typer.Context,
    recipe: options.RecipePath,
    settings: options.Settings = None,
    output: options.Output = None,
    force: options.Force = False,
) -> None:
    """Carry out a recipe: transform, measure, choose, report."""
    from optkit import runfolder, summary
    from optkit.verbs.run import run as verb

    console = console_of(ctx)
    folder = output or runfolder.default(recipe)
    with console.progress() as progress:
        record = verb(recipe, settings=tuple(settings or ()), output=folder, force=force, progress=progress)
    console.notes(summary.all_notes(record))
    console.answer(record, lambda: _blocks(record, folder))
    if any(branch.status == "failed" for branch in record.branches):
        raise typer.Exit(1)


def _blocks(run: Run, folder: Path) -> list[Block]:
    from optkit import summary
    from optkit.cli.console import Text
    from optkit.cli.tables import comparison_blocks

    blocks = [block for branch in run.branches for block in _branch_blocks(branch)]
    if run.comparison is not None:
        blocks += comparison_blocks(run.comparison)
    return [*blocks, Text(summary.headline(run), style="bold"), *(Text(line) for line in _places(folder))]


def _branch_blocks(branch: Branch) -> list[Block]:
    from optkit import summary
    from optkit.cli.console import Table, Text

    sheet = summary.stages_sheet(branch)
    rows = [[cell.text for cell in row] for row in sheet.rows]
    blocks: list[Block] = [Table(sheet.columns, rows, title=branch.target)] if rows else []
    if branch.status == "failed":
        blocks.append(Text(f"{branch.target} failed: {branch.reason}", style="red"))
    return blocks


def _places(folder: Path) -> list[str]:
    bundle = folder / "bundle"
    lines = [f"bundle: {bundle} -> {bundle.readlink()}"] if bundle.is_symlink() else []
    return [*lines, f"report: {folder / 'report.html'}"]
