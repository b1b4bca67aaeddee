"""``optkit distill``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from optkit.cli import options
from optkit.cli.app import console_of

Weight = float | None


def distill(
    ctx: typer.Context,
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="A torch model: what is to be learnt.")],
    student: Annotated[
        str | None, typer.Option("--student", metavar="FILE", help="A student to begin with: a file of weights.")
    ] = None,
    student_code: Annotated[
        str | None,
        typer.Option(
            "--student-code",
            metavar="FILE.py:CALLABLE",
            help="Builds the student's module, by running that file.",
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Layers that an automatic student keeps; by default half.")
    ] = None,
    output: options.Output = None,
    data: options.Data = None,
    train_data: options.TrainData = None,
    match: Annotated[
        Literal["auto", "kl", "mse"],
        typer.Option("--match", help="Outputs as classes (kl, softened) or values (mse); auto goes by the metric."),
    ] = "auto",
    temperature: Annotated[float, typer.Option("--temperature", help="Softens classes on both sides.")] = 2.0,
    logits: Annotated[float, typer.Option("--logits", min=0, help="How much the teacher's outputs count.")] = 1.0,
    hidden: Annotated[
        Weight, typer.Option("--hidden", min=0, help="How much the outputs of matched layers count.")
    ] = None,
    attention: Annotated[
        Weight, typer.Option("--attention", min=0, help="How much the attention of matched layers counts.")
    ] = None,
    task: Annotated[Weight, typer.Option("--task", min=0, help="How much labels count.")] = None,
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
    """Train a smaller student to do what the model does, and prove what it kept."""
    from optkit.cli.tables.comparison import transformation_blocks
    from optkit.verbs.distill import distill as verb

    console = console_of(ctx)
    with console.progress() as progress:
        done = verb(
            teacher,
            output,
            student=student,
            student_code=student_code,
            layers=layers,
            data=data,
            train_data=train_data,
            match=match,
            temperature=temperature,
            logits=logits,
            hidden=hidden,
            attention=attention,
            task=task,
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
