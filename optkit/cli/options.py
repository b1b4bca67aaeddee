"""Options that several verbs share, spelled the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="A torch, ONNX or OpenVINO model, or a bundle.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Where the result goes.")]
RequiredOutput = Annotated[Path, typer.Option("-o", "--output", help="Where the result goes.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DATA", help=".npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE."),
]
RequiredData = Annotated[
    str,
    typer.Option("--data", metavar="DATA", help=".npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE."),
]
TrainData = Annotated[
    str | None,
    typer.Option("--train-data", metavar="DATA", help="What to train on, when it is not to be split off --data."),
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Times that training goes through the data at most.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples per training step.")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", help="Its highest value; by default the best of five tried.")
]
WeightDecay = Annotated[float, typer.Option("--weight-decay", min=0, help="AdamW's.")]
Patience = Annotated[
    int, typer.Option("--patience", min=1, help="Epochs without a better held-out loss after which training stops.")
]
Calibration = Annotated[
    str | None,
    typer.Option("--calibration", metavar="DATA", help="Calibration data, when it is not to be split off --data."),
]
CalibrationSamples = Annotated[
    int, typer.Option("--calibration-samples", min=1, help="How many samples calibrate at most.")
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC[:OUTPUT]",
        help="accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to the "
        "baseline). By default chosen from the data.",
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option("--max-drop", min=0.0, help="The largest loss allowed, in the metric's own units."),
]
TargetName = Annotated[str, typer.Option("--target", help="onnxruntime, openvino or tensorrt.")]
OptionalTarget = Annotated[
    str | None,
    typer.Option("--target", help="onnxruntime, openvino, tensorrt or torch; by default what fits the format."),
]
Device = Annotated[
    Literal["cpu", "cuda"] | None,
    typer.Option("--device", help="Where models run; by default where a bundle says, else on the CPU."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads per session; by default all cores allowed.")
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Samples per inference.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME:DTYPE[DIM,DIM]",
        help="An input, where the file does not tell; a word is a dynamic dimension.",
    ),
]
Code = Annotated[
    str | None,
    typer.Option(
        "--code", metavar="FILE.py:CALLABLE", help="Builds the nn.Module of a state dict. This runs that file's code."
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help="Let a pickled file that you made yourself run its code.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shapes", metavar="NAME=MIN/OPT/MAX", help="Sizes of a dynamic dimension, for tensorrt."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that draws at random.")]
Seconds = Annotated[
    float, typer.Option("--seconds", min=0.1, max=86_400, help="Time for the measurement at most, per candidate.")
]
Precision = Annotated[
    float,
    typer.Option("--precision", min=0.0001, help="Stop once every ratio's 95 % interval is within this share of it."),
]
TimeLimit = Annotated[
    float, typer.Option("--time-limit", min=0.1, help="Seconds without an answer after which a model counts as hung.")
]
RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Put a value into the recipe: benchmark.seconds=5, targets.0=openvino."
    ),
]
