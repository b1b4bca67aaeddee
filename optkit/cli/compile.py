"""``optkit compile``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import UsageError


def compile(
    ctx: typer.Context,
    model: options.ModelPath,
    target: options.TargetName,
    output: options.RequiredOutput,
    device: options.Device = None,
    threads: options.Threads = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="A runtime option, as the runtime spells it; repeatable."),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option("--compute-capability", help="A GPU that a tensorrt engine is for: 8.9; repeatable."),
    ] = None,
    shapes: options.Shapes = None,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Make a bundle for one target: model, options, signature, digests."""
    from optkit.cli.tables.comparison import transformation_blocks
    from optkit.verbs.compile import compile as verb

    console = console_of(ctx)
    chosen = dict(_parse(text) for text in option or ())
    with console.progress() as progress:
        done = verb(
            model,
            output,
            target=target,
            device=device,
            threads=threads,
            options=chosen,
            compute_capability=compute_capability or (),
            shapes=shapes or (),
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            seed=seed,
            force=force,
            progress=progress,
        )
    console.notes([*done.notes, *done.stage.notes])
    console.answer(done, lambda: transformation_blocks(done))


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--option {text!r} is not KEY=VALUE", hint="for example INFERENCE_PRECISION_HINT=f32")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
