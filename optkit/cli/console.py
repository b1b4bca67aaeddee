"""The terminal: stdout is the answer, everything else goes to stderr.

Commands build records and hand them to ``answer``; they print nothing themselves. Only this module knows rich.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optkit import units
from optkit.errors import OptkitError
from optkit.progress import Progress
from optkit.reports.sheet import Cell

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from optkit.notes import Note
    from optkit.records.record import Root

DETAIL = " · "
"""Separator of a task's name from a detail that may change while the task goes on."""
_COLOURS = {"good": "green", "bad": "red", "warn": "yellow"}


@dataclass
class Table:
    """A table; a plain string is a cell without a tone."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    title: str | None = None


@dataclass
class Text:
    """A paragraph, or a heading."""

    text: str
    style: str = ""


@dataclass
class Raw:
    """Text that is printed unchanged, as the whole answer: a report."""

    text: str


Block = Table | Text | Raw


@dataclass
class Console:
    """Output in one of three modes: human, json (one document on stdout) or quiet (the answer only)."""

    json: bool = False
    quiet: bool = False
    verbose: int = 0
    _stderr: RichConsole | None = field(default=None, repr=False)

    def answer(self, record: Root, render: Callable[[], Sequence[Block]]) -> None:
        """Print the record as JSON, or the blocks that ``render`` makes of it."""
        if self.json:
            sys.stdout.write(record.to_json() + "\n")
            return
        from rich.console import Console as RichConsole

        out = RichConsole(highlight=False, soft_wrap=not sys.stdout.isatty())
        for block in render():
            _print(out, block)

    def note(self, text: str, *, level: str = "info") -> None:
        """Print a line on stderr; quiet hides all but warnings."""
        if self.quiet and level == "info":
            return
        prefix = "[yellow]warning:[/] " if level == "warning" else ""
        self.stderr.print(prefix + _escape(text))

    def raw(self, line: str) -> None:
        """Print a line on stderr unchanged, for another program."""
        sys.stderr.write(line + "\n")

    def notes(self, notes: Sequence[Note]) -> None:
        """Print a record's notes on stderr. In human mode they are not repeated in the answer."""
        for note in notes:
            where = f"{note.where}: " if note.where else ""
            self.note(where + note.text, level=note.level)

    def debug(self, text: str) -> None:
        """Print a line on stderr, with ``-v`` only."""
        if self.verbose:
            self.stderr.print(f"[dim]{_escape(text)}[/]")

    def error(self, error: OptkitError) -> None:
        """Print the error's line and its hint on stderr; with ``--json`` also as the one document on stdout."""
        if self.json:
            import json

            body = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
            document = {"schema": "optkit.error/1", "error": {"type": type(error).__name__} | body}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        self.stderr.print(f"[bold red]error:[/] {_escape(error.message)}", soft_wrap=True)
        if error.hint:
            self.stderr.print(f"[bold]hint:[/] {_escape(error.hint)}", soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show a progress bar on stderr; nothing when quiet or not a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda what, done, total: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
        with RichProgress(*columns, *times, console=self.stderr, transient=True) as bar:
            task, shown = bar.add_task("", visible=False, left=""), ""  # a new one for each name, in the other's place

            def update(what: str, done: int, total: int | None) -> None:
                nonlocal task, shown
                name = what.partition(DETAIL)[0]
                if name != shown:
                    bar.remove_task(task)
                    task, shown = bar.add_task("", total=total, left=""), name
                remaining = bar.tasks[0].time_remaining
                left = "" if remaining is None else f"{units.seconds(remaining)} left"
                bar.update(task, completed=done, total=total, description=_escape(what), left=left)

            yield update

    @property
    def stderr(self) -> RichConsole:
        if self._stderr is None:
            from rich.console import Console as RichConsole

            self._stderr = RichConsole(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        return self._stderr


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print(out: RichConsole, block: Block) -> None:
    if isinstance(block, Raw):
        sys.stdout.write(block.text)
        return
    if isinstance(block, Text):
        out.print(_escape(block.text), style=block.style)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    table = RichTable(
        box=SIMPLE_HEAD,
        title=_escape(block.title) if block.title else None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )
    for index, column in enumerate(block.columns):
        table.add_column(_escape(column), justify="left" if index == 0 else "right", overflow="fold")
    for row in block.rows:
        table.add_row(*[_cell(cell) for cell in row])
    # A pipe has no width: let the table be as wide as its text, so that nothing is cut.
    if not out.is_terminal:
        out.width = max(out.width, out.measure(table, options=out.options.update(width=10_000)).maximum)
    out.print(table)


def _cell(cell: str | Cell) -> str:
    """Write the cell's text as rich's markup, in the colour of its tone."""
    if isinstance(cell, str):
        return _escape(cell)
    return f"[{_COLOURS[cell.tone]}]{_escape(cell.text)}[/]" if cell.tone else _escape(cell.text)
