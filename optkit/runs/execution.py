"""Execution of a single stage: apply it, record it, and copy its result."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from optkit.errors import OutputError
from optkit.formats import opening
from optkit.formats.model import Model, files_of
from optkit.formats.onnx import graph
from optkit.measurement import recording
from optkit.records.run import StageRecord
from optkit.stages.stage import Context, Outcome, Stage
from optkit.system import atomic


def carry_out(stage: Stage, model: Model, context: Context, *, key: str = "") -> tuple[Outcome, StageRecord]:
    """Check and apply a stage, and return its outcome with a record of it.

    ``key`` is the result's key in the store, if it has one. Raises the stage's errors.
    """
    stage.check(model, context)
    started = time.monotonic()
    outcome = stage.apply(model, context)
    return outcome, StageRecord(
        stage=stage.name,
        fields=stage.model_dump(mode="json"),
        target=context.target if stage.needs_target else None,
        key=key,
        engine=outcome.engine,
        method=outcome.method,
        seconds=time.monotonic() - started,
        engine_seconds=outcome.engine_seconds,
        source=recording.of_model(model),
        result=recording.of_model(outcome.model),
        notes=list(outcome.notes),
        facts=outcome.facts,
    )


def place(model: Model, destination: Path, *, force: bool = False) -> Model:
    """Copy a stage's result to ``destination``, renaming the files that belong to it to match. Raises OutputError."""
    _check_suffix(model, destination)
    with atomic.writing(destination, force=force) as folder:
        if model.format == "onnx" and len(files_of(model.path, model.format)) > 1:
            graph.save(graph.load(model.path), folder / destination.name, embedded_limit=0)
        else:
            for file in files_of(model.path, model.format):
                shutil.copyfile(file, folder / destination.with_suffix(file.suffix).name)
    placed = opening.open(destination, code=model.code, trust=model.trusted)
    return replace(placed, signature=model.signature, target=model.target, options=model.options)


def _check_suffix(model: Model, destination: Path) -> None:
    """Refuse a suffix other than the model's, because runtimes recognize formats by it. Raises OutputError."""
    if destination.suffix != model.path.suffix:
        raise OutputError(
            f"{destination}: the result is {model.format}, whose files end in {model.path.suffix}",
            hint=f"for example -o {destination.with_suffix(model.path.suffix)}",
        )
