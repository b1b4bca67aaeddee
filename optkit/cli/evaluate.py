"""``optkit evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli import options
from optkit.cli.app import console_of

Reference = Annotated[
    str | None, typer.Option("--reference", metavar="MODEL", help="The model whose outputs or quality count as right.")
]


def evaluate(
    ctx: typer.Context,
    model: options.ModelPath,
    data: options.RequiredData,
    reference: Reference = None,
    metric: options.Metric = None,
    target: options.OptionalTarget = None,
    device: options.Device = None,
    threads: options.Threads = None,
    batch: options.Batch = 1,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
) -> None:
    """Measure the quality of a model on data; with a reference also what was lost."""
    from optkit.cli.tables.comparison import evaluation_blocks
    from optkit.verbs.evaluate import evaluate as verb

    console = console_of(ctx)
    with console.progress() as progress:
        evaluation = verb(
            model,
            data=data,
            reference=reference,
            metric=metric,
            target=target,
            device=device,
            threads=threads,
            batch=batch,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            seed=seed,
            progress=progress,
        )
    console.notes(evaluation.row.notes)
    console.answer(evaluation, lambda: evaluation_blocks(evaluation))
