"""``optkit explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import FAILED


def explain(
    ctx: typer.Context,
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="The model that the other is compared with.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="A model, a bundle or MODEL@TARGET.")],
    data: options.Data = None,
    calibration: Annotated[
        str | None, typer.Option("--calibration", metavar="DATA", help="What the candidate was calibrated with.")
    ] = None,
    metric: options.Metric = None,
    max_drop: options.MaxDrop = None,
    target: options.OptionalTarget = None,
    threads: options.Threads = None,
    batch: options.Batch = 1,
    seconds: options.Seconds = 5.0,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    time_limit: options.TimeLimit = 600.0,
    seed: options.Seed = 0,
) -> None:
    """Explain why a model is slower or faster than another, and where its quality went, with causes and what to try.

    Time is told operator by operator, quality layer by layer; the latter needs data. A candidate that fails ends the
    command with exit code 1.
    """
    from optkit.cli.tables.speed_explanation import explanation_blocks
    from optkit.verbs.explain import explain as verb

    console = console_of(ctx)
    with console.progress() as progress:
        found = verb(
            baseline,
            candidate,
            data=data,
            calibration=calibration,
            metric=metric,
            max_drop=max_drop,
            target=target,
            threads=threads,
            batch=batch,
            seconds=seconds,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            time_limit=time_limit,
            seed=seed,
            progress=progress,
        )
    console.notes(found.notes)
    console.answer(found, lambda: explanation_blocks(found))
    if found.speed is not None and found.speed.candidate is None:
        raise typer.Exit(FAILED)
