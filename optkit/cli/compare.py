"""``optkit compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import FAILED


def compare(
    ctx: typer.Context,
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="The model that the others are compared with.")],
    candidates: Annotated[list[str], typer.Argument(metavar="CANDIDATE...", help="Models, bundles or MODEL@TARGET.")],
    data: options.Data = None,
    metric: options.Metric = None,
    max_drop: options.MaxDrop = None,
    target: options.OptionalTarget = None,
    device: options.Device = None,
    threads: options.Threads = None,
    batch: options.Batch = 1,
    seconds: options.Seconds = 10.0,
    precision: options.Precision = 0.01,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    time_limit: options.TimeLimit = 600.0,
    seed: options.Seed = 0,
) -> None:
    """Compare models: quality, speed and size side by side, with intervals.

    A model that fails, except the first, is a row with its reason; the others are compared, and the command ends with
    exit code 1.
    """
    from optkit.cli.tables.comparison import comparison_blocks
    from optkit.verbs.compare import compare as verb

    console = console_of(ctx)
    with console.progress() as progress:
        comparison = verb(
            baseline,
            candidates,
            data=data,
            metric=metric,
            max_drop=max_drop,
            target=target,
            device=device,
            threads=threads,
            batch=batch,
            seconds=seconds,
            precision=precision,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            time_limit=time_limit,
            seed=seed,
            progress=progress,
        )
    console.notes(comparison.notes)
    console.answer(comparison, lambda: comparison_blocks(comparison))
    if any(row.status == "failed" for row in comparison.rows):
        raise typer.Exit(FAILED)
