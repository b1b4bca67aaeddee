"""What verbs that train have in common: the trained module where it belongs, and the proof on a runtime."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from optkit.errors import UsageError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.measurement import recording
from optkit.records.comparison import Comparison
from optkit.records.run import Transformation
from optkit.runs import execution, proof
from optkit.runs.single_stage import Request, Transformed, transformed
from optkit.stages.stage import Context, Stage, stage_class
from optkit.system import atomic


def carried_out(
    stage: Stage,
    request: Request,
    output: Path | None,
    *,
    max_drop: float | None,
    measure: bool,
    seconds: float,
    force: bool,
) -> Transformation:
    """Carry out a stage that trains; the result is a torch file or, as ``.onnx``, exported.

    Without ``output`` it lies beside the model, as ``MODEL-prune.safetensors``. Where Ctrl-C ends the training, the
    best so far is written all the same. Raises OptkitError, KeyboardInterrupt.
    """
    source = Path(request.path)
    opened = opening.open(source, code=request.code, trust=request.trust)
    suffix = ".pt" if stage.makes(opened) == "module" else ".safetensors"
    destination = output or source.with_name(f"{source.stem}-{stage.name}{suffix}")
    atomic.claim(destination, force=force, suffixes=(suffix, ".onnx"))

    def keep(model: Model) -> str:
        kept = destination if destination.suffix == model.path.suffix else destination.with_suffix(model.path.suffix)
        execution.place(model, kept, force=force or kept != destination)
        return f"the best so far is {kept}; the same command with --force goes on from the checkpoint"

    exports = measure or destination.suffix == ".onnx"
    with (
        transformed(stage, replace(request, keep=keep, exports=exports)) as done,
        tempfile.TemporaryDirectory() as name,
    ):
        result = done.outcome.model
        if destination.suffix == ".onnx":
            result = _export(done, result, Path(name) / "result")
        placed = execution.place(result, destination, force=force)
        found = _compared(done, result, destination, Path(name), max_drop, seconds) if measure else None
        return Transformation(
            output=str(destination),
            stage=done.record.model_copy(update={"result": recording.of_model(placed)}),
            **{name: record for name, record in recording.of_parts(done.parts).items() if name != "evaluation"},
            comparison=found,
            notes=[*done.notes, *(proof.verdict(found) if found else ())],
        )


def _compared(
    done: Transformed, result: Model, destination: Path, folder: Path, max_drop: float | None, seconds: float
) -> Comparison:
    """The model that came in beside the one that came out, as runtimes take them."""
    after = result if result.format == "onnx" else _export(done, result, folder / "after")
    named = after.path.rename(after.path.with_name(f"{destination.stem}.onnx"))
    return proof.compared(done, replace(after, path=named), done.request.metric, max_drop, seconds)


def _export(done: Transformed, model: Model, folder: Path) -> Model:
    request = done.request
    folder.mkdir()
    if model.signature is None:
        raise UsageError(f"{model.path} does not tell its inputs", hint="--input 'x:float32[batch,3,224,224]'")
    request.progress("export", 0, None)
    context = Context(folder, done.parts.calibration, done.parts.evaluation, request.target, request.seed)
    return execution.carry_out(stage_class("export")(), model, context)[0].model
