"""A verb carried out for its command: progress on stderr, notes, the answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from optkit.cli.app import console_of
from optkit.options.option import Options

if TYPE_CHECKING:
    from optkit.records.run import Transformation

Answer = TypeVar("Answer")


def carried_out(ctx: typer.Context, verb: Callable[..., Answer], options: Options) -> Answer:
    """Carry out a verb with the options of its command, and progress on a terminal."""
    with console_of(ctx).progress() as progress:
        answer: Answer = inspect.unwrap(verb)(options, progress)
    return answer


def transform(ctx: typer.Context, verb: Callable[..., Transformation], options: Options) -> None:
    """Carry out a verb that transforms a model, and show its notes and what it made."""
    from optkit.cli.tables.comparison import transformation_blocks

    console = console_of(ctx)
    done = carried_out(ctx, verb, options)
    compared = done.comparison.notes if done.comparison else []
    console.notes([*done.stage.notes, *compared, *done.notes])
    console.answer(done, lambda: transformation_blocks(done))
