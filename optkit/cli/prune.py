"""``optkit prune``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from optkit.cli import options
from optkit.cli.app import console_of


def prune(
    ctx: typer.Context,
    model: options.ModelPath,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", min=0, max=1, help="The share to cut: 0.5 leaves half.")
    ] = None,
    of: Annotated[Literal["macs", "parameters"], typer.Option("--of", help="What --sparsity is a share of.")] = "macs",
    target_speedup: Annotated[
        float | None,
        typer.Option("--target-speedup", min=1, help="Cut until the target is faster by this factor, as measured."),
    ] = None,
    drop_layers: Annotated[
        int, typer.Option("--drop-layers", min=0, help="Whole layers to leave out, those that matter least.")
    ] = 0,
    output: options.Output = None,
    data: options.Data = None,
    train_data: options.TrainData = None,
    pattern: Annotated[
        Literal["structured", "unstructured", "2:4"],
        typer.Option("--pattern", help="Cut units, or set weights to zero: anywhere, or two of each four."),
    ] = "structured",
    importance: Annotated[
        Literal["l1", "l2", "taylor", "activation"],
        typer.Option("--importance", help="What a unit's worth is told by."),
    ] = "taylor",
    scope: Annotated[
        Literal["global", "layer"],
        typer.Option("--scope", help="Rank units of all layers together, or cut each layer alike."),
    ] = "global",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Cuts, with training after each.")] = 3,
    round_to: Annotated[
        int, typer.Option("--round-to", min=1, help="Leave a multiple of so many channels, as kernels like it.")
    ] = 8,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Layer to leave alone.")] = None,
    epochs: options.Epochs = 5,
    batch_size: options.BatchSize = 64,
    learning_rate: options.LearningRate = None,
    weight_decay: options.WeightDecay = 0.01,
    patience: options.Patience = 3,
    metric: options.Metric = None,
    max_drop: options.MaxDrop = None,
    target: options.TargetName = "onnxruntime",
    measure: Annotated[bool, typer.Option(help="Compare the result with the model that came in.")] = True,
    threads: options.Threads = None,
    seconds: options.Seconds = 5.0,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Cut a model smaller, let it learn again, and prove what it kept."""
    from optkit.cli.tables.comparison import transformation_blocks
    from optkit.verbs.prune import prune as verb

    console = console_of(ctx)
    with console.progress() as progress:
        done = verb(
            model,
            output,
            sparsity=sparsity,
            of=of,
            target_speedup=target_speedup,
            drop_layers=drop_layers,
            pattern=pattern,
            importance=importance,
            scope=scope,
            steps=steps,
            round_to=round_to,
            exclude=tuple(exclude or ()),
            data=data,
            train_data=train_data,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            patience=patience,
            metric=metric,
            max_drop=max_drop,
            target=target,
            measure=measure,
            threads=threads,
            seconds=seconds,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            seed=seed,
            force=force,
            progress=progress,
        )
    notes = done.comparison.notes if done.comparison else []
    console.notes([*done.stage.notes, *notes, *done.notes])
    console.answer(done, lambda: transformation_blocks(done))
