"""``quantize``: lower precision in one line, and the proof of what it brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from optkit import comparison, records
from optkit import output as outputs
from optkit.data import Dataset
from optkit.execution import place
from optkit.model import Model
from optkit.quantizer import BiasCorrection, Calibrate, ModelType
from optkit.results import Comparison, Row
from optkit.runs import Transformation
from optkit.stage import Note, Progress, no_progress
from optkit.stages.quantize import EngineName, Method, Precision, Quantize
from optkit.transformation import Request, Transformed, transformed
from optkit.worker import candidate


def quantize(
    model: str | Path,
    output: str | Path | None = None,
    *,
    precision: Precision = "int8",
    method: Method = "auto",
    engine: EngineName = "auto",
    calibrate: Calibrate = "minmax",
    per_channel: bool = True,
    exclude: Sequence[str] = (),
    model_type: ModelType = "auto",
    bias_correction: BiasCorrection = "fast",
    smooth_quant: float | None = None,
    target: str = "onnxruntime",
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    calibration_samples: int = 300,
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
    destination = Path(output) if output else _beside(Path(model), precision, target)
    outputs.claim(destination, force=force, suffixes=(".onnx", ".xml"))
    stage = Quantize(
        precision=precision,
        method=method,
        engine=engine,
        calibrate=calibrate,
        per_channel=per_channel,
        exclude=tuple(exclude),
        model_type=model_type,
        bias_correction=bias_correction,
        smooth_quant=smooth_quant,
    )
    request = Request(
        model, inputs, code, trust, data, calibration, calibration_samples, target, seed, progress=progress
    )
    with transformed(stage, request) as done:
        placed = place(done.outcome.model, destination, force=force)
        compared = (
            _compared(done, placed, target, threads, metric, max_drop, seconds, seed, progress) if measure else None
        )
        return Transformation(
            output=str(destination),
            stage=done.record.model_copy(update={"result": records.of_model(placed)}),
            calibration=done.calibration and records.of_dataset(done.calibration),
            comparison=compared,
            notes=records.of_notes([*done.notes, *(_verdict(compared) if compared else ())]),
        )


def _beside(model: Path, precision: str, target: str) -> Path:
    return model.parent / f"{model.stem}-{precision}{'.xml' if target == 'openvino' else '.onnx'}"


def _compared(
    done: Transformed,
    placed: Model,
    target: str,
    threads: int | None,
    metric: str | None,
    max_drop: float | None,
    seconds: float,
    seed: int,
    progress: Progress,
) -> Comparison:
    """The float model and the quantized one on the same target."""
    before = candidate(done.floating, target=target, threads=threads)
    after = candidate(placed, target=target, threads=threads)
    dataset: Dataset | None = done.evaluation
    return comparison.side_by_side(
        [replace(before, name=f"{done.source.path.name} (float)"), after],
        dataset=dataset,
        metric=metric if dataset else None,
        max_drop=max_drop if dataset else None,
        seconds=seconds,
        seed=seed,
        threads=threads,
        progress=progress,
    )


def _verdict(compared: Comparison) -> list[Note]:
    result: Row = compared.rows[-1]
    if result.status == "failed":
        return [Note(f"the result does not run: {result.reason}", level="warning")]
    loss = result.quality.loss if result.quality else None
    notes = []
    if result.speed_verdict == "slower":
        notes.append(
            Note("the result is slower than what came in: keep the original if speed is the goal", level="warning")
        )
    if loss is not None and compared.max_drop is not None and loss.value > compared.max_drop:
        notes.append(Note(f"the loss {loss.value:.4f} is beyond --max-drop {compared.max_drop:g}", level="warning"))
    return notes
