"""``quantize``: lower precision in one line, and the proof of what it brought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.formats.model import Model
from optkit.measurement import recording
from optkit.progress import Progress, no_progress
from optkit.quantization.quantizer import BiasCorrection, Calibrate, Floats, ModelType, Preset
from optkit.records.run import Transformation
from optkit.runs import proof
from optkit.runs.execution import place
from optkit.runs.single_stage import Request, transformed
from optkit.stages.quantize import EngineName, Method, Precision, Quantize
from optkit.stages.stage import made
from optkit.system import atomic


def quantize(
    model: str | Path,
    output: str | Path | None = None,
    *,
    precision: Precision = "int8",
    floats: Floats = "float32",
    method: Method = "auto",
    engine: EngineName = "auto",
    calibrate: Calibrate = "minmax",
    per_channel: bool = True,
    exclude: Sequence[str] = (),
    model_type: ModelType = "auto",
    preset: Preset = "mixed",
    bias_correction: BiasCorrection = "fast",
    smooth_quant: float | None = None,
    target: str = "onnxruntime",
    data: str | Path | None = None,
    train_data: str | Path | None = None,
    calibration: str | Path | None = None,
    calibration_samples: int = 300,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    patience: int = 3,
    metric: str | None = None,
    max_drop: float | None = None,
    measure: bool = True,
    threads: int | None = None,
    seconds: float = 5.0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
) -> Transformation:
    """Quantize ``model`` for ``target`` and, unless ``measure`` is false, compare the result with it.

    Without ``output`` the result lies beside the model, as ``MODEL-int8.onnx`` (``.xml`` for openvino). Raises
    OptkitError.
    """
    destination = Path(output) if output else _beside(Path(model), precision, floats, target)
    atomic.claim(destination, force=force, suffixes=(".onnx", ".xml"))
    stage = made(
        Quantize,
        precision=precision,
        floats=floats,
        method=method,
        engine=engine,
        calibrate=calibrate,
        per_channel=per_channel,
        exclude=tuple(exclude),
        model_type=model_type,
        preset=preset,
        bias_correction=bias_correction,
        smooth_quant=smooth_quant,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        patience=patience,
    )

    def keep(best: Model) -> str:
        place(best, destination, force=force)
        return f"the best so far is {destination}; the same command with --force goes on from the checkpoint"

    request = Request(
        model,
        inputs,
        code,
        trust,
        data,
        calibration,
        calibration_samples,
        target,
        seed,
        progress=progress,
        train=train_data,
        metric=metric,
        threads=threads,
        keep=keep,
    )
    with transformed(stage, request) as done:
        placed = place(done.outcome.model, destination, force=force)
        compared = proof.compare_with_float(done, placed, metric, max_drop, seconds) if measure else None
        return Transformation(
            output=str(destination),
            stage=done.record.model_copy(update={"result": recording.of_model(placed)}),
            training=done.parts.training and recording.of_dataset(done.parts.training),
            calibration=done.parts.calibration and recording.of_dataset(done.parts.calibration),
            comparison=compared,
            notes=[*done.notes, *(proof.verdict(compared) if compared else ())],
        )


def _beside(model: Path, precision: str, floats: str, target: str) -> Path:
    types = precision if floats == "float32" else f"{precision}-{floats}"
    return model.parent / f"{model.stem}-{types}{'.xml' if target == 'openvino' else '.onnx'}"
