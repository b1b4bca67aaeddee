"""Proof of a transformation: the result compared with the float model it was made from, on the same target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from optkit import units
from optkit.errors import MissingDeviceError, MissingLibraryError, OptkitError
from optkit.formats.model import Model
from optkit.measurement import comparison, recording
from optkit.measurement.candidate import resolve_candidate
from optkit.measurement.worker import examined
from optkit.notes import Note
from optkit.quantization.half.verify import AS_WRITTEN, reference_model
from optkit.records.comparison import Comparison, Row
from optkit.runs.single_stage import Transformed
from optkit.targets.table import REFERENCE
from optkit.targets.target import target


def compare_with_float(
    done: Transformed, after: Model, metric: str | None, max_drop: float | None, seconds: float
) -> Comparison:
    """Compare ``after`` with the float model that it was made from, on the evaluation data if there is any.

    If the target cannot run on this machine, onnxruntime computes the quality on the CPU and no speed is measured.
    """
    absence = target(done.request.target).absence()
    if absence is None:
        return _side_by_side(done, after, metric, max_drop, seconds)
    with tempfile.TemporaryDirectory(prefix="optkit-") as folder:
        meant = reference_model(after, Path(folder))
        found = _side_by_side(done, meant, metric, max_drop, None)
    before, result = found.rows
    text = f"quality was computed by {REFERENCE} on the CPU, and speed was not measured: {absence}"
    note = Note(text=text, where=done.request.target, level="warning")
    rows = [before, result.model_copy(update={"model": recording.of_model(after)})]
    return found.model_copy(update={"rows": rows, "notes": [*found.notes, note, *_refused(after, done.request.target)]})


def _refused(model: Model, target_name: str) -> Iterator[Note]:
    """Yield a warning if a target that cannot run here, but can read models, refuses this one."""
    try:
        refused = [
            f"{each.operator} ({each.node}): {each.reason}"
            for each in examined(resolve_candidate(model, target=target_name, runs=False)).refused
        ]
    except (MissingLibraryError, MissingDeviceError):
        return
    except OptkitError as error:
        refused = [error.message]
    if refused:
        named = units.listed(refused, 1)
        text = f"{target_name} does not accept the result: {named}; see optkit inspect --target {target_name}"
        yield Note(text=text, where=target_name, level="warning")


def _side_by_side(
    done: Transformed, after: Model, metric: str | None, max_drop: float | None, seconds: float | None
) -> Comparison:
    """Compare both models on the target for ``seconds`` each; without ``seconds``, only their quality on the CPU."""
    request, dataset = done.request, done.parts.evaluation
    runtime = REFERENCE if seconds is None else request.target
    before, result = (
        resolve_candidate(each, target=runtime, threads=request.threads) for each in (done.floating, after)
    )
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
    """Return warnings if the result is no improvement."""
    result: Row = compared.rows[-1]
    if result.status == "failed":
        return [Note(f"the result does not run: {result.reason}", level="warning")]
    loss = result.quality.loss if result.quality else None
    notes = []
    if result.speed_verdict == "slower":
        notes.append(
            Note(
                "the result is slower than the original model: keep the original if speed is the goal", level="warning"
            )
        )
    if loss is not None and compared.max_drop is not None and loss.value > compared.max_drop:
        notes.append(Note(f"the loss {loss.value:.4f} exceeds --max-drop {compared.max_drop:g}", level="warning"))
    return notes
