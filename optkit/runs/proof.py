"""What a transformation brought: the float model that went in and what came out, side by side on the same target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from optkit.errors import MissingDeviceError, MissingLibraryError, OptkitError
from optkit.formats.model import Model
from optkit.measurement import comparison, recording
from optkit.measurement.candidate import candidate
from optkit.measurement.worker import examined
from optkit.notes import Note
from optkit.quantization.half import verify as half_verify
from optkit.quantization.half.verify import AS_WRITTEN
from optkit.records.comparison import Comparison, Row
from optkit.runs.single_stage import Transformed
from optkit.targets.target import target

_REFERENCE = "onnxruntime"


def compared(done: Transformed, after: Model, metric: str | None, max_drop: float | None, seconds: float) -> Comparison:
    """``after`` beside the float model that it was made of, on the evaluation data where there are some.

    Where the target cannot run here, onnxruntime computes the quality on the CPU, and no speed is claimed.
    """
    absence = target(done.request.target).absence()
    if absence is None:
        return _side_by_side(done, after, metric, max_drop, seconds)
    with tempfile.TemporaryDirectory() as folder:
        meant = half_verify.reference(after, Path(folder))
        found = _side_by_side(done, meant, metric, max_drop, None)
    before, result = found.rows
    told = f"quality is computed on the CPU, by {_REFERENCE}, and no speed was measured: {absence}"
    note = Note(text=told, where=done.request.target, level="warning")
    rows = [before, result.model_copy(update={"model": recording.of_model(after)})]
    return found.model_copy(update={"rows": rows, "notes": [*found.notes, note, *_refused(after, done.request.target)]})


def _refused(model: Model, target_name: str) -> Iterator[Note]:
    """A warning where a target that cannot run here, but can read models, does not take this one."""
    try:
        refused = [
            f"{each.operator} ({each.node}): {each.reason}"
            for each in examined(candidate(model, target=target_name, runs=False)).refused
        ]
    except (MissingLibraryError, MissingDeviceError):
        return
    except OptkitError as error:
        refused = [error.message]
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        text = (
            f"{target_name} does not take the result: {refused[0]}{more}; optkit inspect --target {target_name} tells"
        )
        yield Note(text=text, where=target_name, level="warning")


def _side_by_side(
    done: Transformed, after: Model, metric: str | None, max_drop: float | None, seconds: float | None
) -> Comparison:
    """Without ``seconds``, the quality alone, on the CPU."""
    request, dataset = done.request, done.parts.evaluation
    runtime = _REFERENCE if seconds is None else request.target
    before, result = (candidate(each, target=runtime, threads=request.threads) for each in (done.floating, after))
    if seconds is None:
        before, result = (replace(each, options=each.options | AS_WRITTEN) for each in (before, result))
    return comparison.side_by_side(
        [replace(before, name=f"{done.source.path.name} (float)"), result],
        dataset=dataset,
        metric=metric if dataset else None,
        max_drop=max_drop if dataset else None,
        seconds=seconds or 0.0,
        seed=request.seed,
        threads=request.threads,
        with_speed=seconds is not None,
        progress=request.progress,
    )


def verdict(compared: Comparison) -> list[Note]:
    """Warnings where the result is no improvement."""
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
