"""``optkit benchmark``."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import UsageError

Batches = Annotated[str, typer.Option("--batch", metavar="N,N", help="Samples per inference; one size or several.")]


def benchmark(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, bundles or MODEL@TARGET.")],
    batch: Batches = "1",
    threads: options.Threads = None,
    seconds: options.Seconds = 10.0,
    data: options.Data = None,
    target: options.OptionalTarget = None,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
) -> None:
    """Time models: latency percentiles, throughput, peak memory."""
    sizes = _sizes(batch)
    from optkit.cli.tables import comparison_blocks
    from optkit.verbs.benchmark import benchmark as verb

    console = console_of(ctx)
    with console.progress() as progress:
        comparison = verb(
            models,
            batch=sizes,
            threads=threads,
            seconds=seconds,
            data=data,
            target=target,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            seed=seed,
            progress=progress,
        )
    console.notes(comparison.notes)
    console.answer(comparison, lambda: comparison_blocks(comparison))


def _sizes(text: str) -> list[int]:
    """``1,8`` -> [1, 8]."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--batch {text!r} is not a list of positive sizes", hint="for example --batch 1,8")
    return [int(part) for part in parts]
