"""``optkit quantize``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import UsageError

Precision = Literal["int8", "fp8", "fp16", "bf16", "int4"]
Floats = Literal["float32", "fp16", "bf16"]
_EIGHTS: tuple[Literal["int8", "fp8"], ...] = ("int8", "fp8")
_HALVES: tuple[Literal["fp16", "bf16"], ...] = ("fp16", "bf16")
Method = Literal["auto", "dynamic", "static", "weight-only", "qat"]
Engine = Literal["auto", "onnxruntime", "nncf", "neural-compressor"]
Calibrate = Literal["minmax", "entropy", "percentile", "mean"]
ModelType = Literal["auto", "transformer", "none"]
BiasCorrection = Literal["fast", "accurate", "none"]


def quantize(
    ctx: typer.Context,
    model: options.ModelPath,
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit integers, by the method that fits model, target and data.")
    ] = False,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="Half precision; with --int8 or --fp8, for tensorrt, of what is left."),
    ] = False,
    fp8: Annotated[bool, typer.Option("--fp8", help="8-bit floats, on tensorrt from capability 8.9 on.")] = False,
    bf16: Annotated[
        bool,
        typer.Option("--bf16", help="bfloat16, where target and machine have it; with --int8 as --fp16 is."),
    ] = False,
    int4: Annotated[bool, typer.Option("--int4", help="4-bit weights, arithmetic in float.")] = False,
    output: options.Output = None,
    data: options.Data = None,
    train_data: options.TrainData = None,
    calibration: options.Calibration = None,
    calibration_samples: options.CalibrationSamples = 300,
    target: options.TargetName = "onnxruntime",
    method: Annotated[Method, typer.Option("--method", help="How INT8 comes about.")] = "auto",
    engine: Annotated[Engine, typer.Option("--engine", help="The library that does it.")] = "auto",
    calibrate: Annotated[
        Calibrate,
        typer.Option("--calibrate", help="How values seen become ranges; not every engine knows every way."),
    ] = "minmax",
    per_channel: Annotated[bool, typer.Option(help="A scale for each output channel of a weight.")] = True,
    model_type: Annotated[
        ModelType,
        typer.Option("--model-type", help="NNCF's scheme for transformers, or none; auto looks at the graph."),
    ] = "auto",
    preset: Annotated[
        Literal["mixed", "performance"],
        typer.Option("--preset", help="NNCF's: which activations have a zero point; performance: none."),
    ] = "mixed",
    bias_correction: Annotated[
        BiasCorrection,
        typer.Option("--bias-correction", help="How NNCF makes up for the error of the means; with qat none."),
    ] = "fast",
    smooth_quant: Annotated[
        float | None,
        typer.Option(
            "--smooth-quant",
            min=0,
            max=1,
            help="SmoothQuant's strength in NNCF's scheme for transformers; NNCF takes 0.95.",
        ),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Node or operator kept in float.")] = None,
    epochs: options.Epochs = 5,
    batch_size: options.BatchSize = 64,
    learning_rate: options.LearningRate = None,
    weight_decay: options.WeightDecay = 0.01,
    patience: options.Patience = 3,
    metric: options.Metric = None,
    max_drop: options.MaxDrop = None,
    measure: Annotated[bool, typer.Option(help="Compare the result with the model that came in.")] = True,
    threads: options.Threads = None,
    seconds: options.Seconds = 5.0,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Quantize a model by the method that fits it, and prove what that brought."""
    precision, floats = _types(int8=int8, fp8=fp8, fp16=fp16, bf16=bf16, int4=int4)
    from optkit.cli.tables.comparison import transformation_blocks
    from optkit.verbs.quantize import quantize as verb

    console = console_of(ctx)
    with console.progress() as progress:
        done = verb(
            model,
            output,
            precision=precision,
            floats=floats,
            method=method,
            engine=engine,
            calibrate=calibrate,
            per_channel=per_channel,
            exclude=tuple(exclude or ()),
            model_type=model_type,
            preset=preset,
            bias_correction=bias_correction,
            smooth_quant=smooth_quant,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            patience=patience,
            target=target,
            data=data,
            train_data=train_data,
            calibration=calibration,
            calibration_samples=calibration_samples,
            metric=metric,
            max_drop=max_drop,
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


def _types(**flags: bool) -> tuple[Precision, Floats]:
    """The precision, and the type of what it leaves in float."""
    eights = [name for name in _EIGHTS if flags[name]]
    halves = [name for name in _HALVES if flags[name]]
    chosen: list[Precision] = [*eights, *halves]
    if flags["int4"]:
        chosen.append("int4")
    if len(chosen) == 1:
        return chosen[0], "float32"
    if len(chosen) == 2 and eights and halves:
        return eights[0], halves[0]
    given = " and ".join(f"--{name}" for name in chosen) or "none of them"
    raise UsageError(
        f"give one of --int8, --fp8, --fp16, --bf16, --int4; you gave {given}",
        hint="for tensorrt also --int8 or --fp8 beside --fp16 or --bf16",
    )
