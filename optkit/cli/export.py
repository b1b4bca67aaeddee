"""``optkit export``."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli import options
from optkit.cli.app import console_of


def export(
    ctx: typer.Context,
    model: options.ModelPath,
    output: options.RequiredOutput,
    opset: Annotated[int, typer.Option("--opset", min=13, max=23, help="Version of the ONNX operators.")] = 18,
    rtol: Annotated[float, typer.Option("--rtol", help="Relative difference allowed between outputs.")] = 1e-3,
    atol: Annotated[
        float, typer.Option("--atol", help="Absolute difference allowed, times the largest output.")
    ] = 1e-4,
    data: options.Data = None,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Export a torch model to ONNX, dynamic dimensions kept, parity checked."""
    from optkit.cli.tables.comparison import transformation_blocks
    from optkit.verbs.export import export as verb

    console = console_of(ctx)
    with console.progress() as progress:
        done = verb(
            model,
            output,
            opset=opset,
            rtol=rtol,
            atol=atol,
            data=data,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            seed=seed,
            force=force,
            progress=progress,
        )
    console.notes([*done.notes, *done.stage.notes])
    console.answer(done, lambda: transformation_blocks(done))
