"""Common part of the verbs that train: write the trained module, and measure it on a runtime."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from optkit.errors import UsageError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.measurement import recording
from optkit.options.verbs.distill import DistillCommand
from optkit.options.verbs.prune import PruneCommand
from optkit.records.comparison import Comparison
from optkit.records.run import Transformation
from optkit.runs import execution, proof
from optkit.runs.single_stage import StageRequest, Transformed, transformed
from optkit.stages.stage import Context, Stage, stage_class
from optkit.system import atomic


def carry_out(
    stage: Stage,
    request: StageRequest,
    options: PruneCommand | DistillCommand,
) -> Transformation:
    """Carry out a stage that trains, and write its result: a torch file or, if ``output`` ends in ``.onnx``, an export.

    Without ``output`` it is written beside the model, as ``MODEL-prune.safetensors``. If Ctrl-C ends the training, the
    best checkpoint so far is written. Raises OptkitError, KeyboardInterrupt.
    """
    source, force = Path(request.model), options.force
    opened = opening.open(source, code=request.code, trust=request.trust)
    suffix = ".pt" if stage.makes(opened) == "module" else ".safetensors"
    destination = options.output or source.with_name(f"{source.stem}-{stage.name}{suffix}")
    atomic.claim(destination, force=force, suffixes=(suffix, ".onnx"))

    def keep(model: Model) -> str:
        """Write the best model of an interrupted training, and tell where."""
        kept = destination if destination.suffix == model.path.suffix else destination.with_suffix(model.path.suffix)
        execution.place(model, kept, force=force or kept != destination)
        return f"the best so far is {kept}; the same command with --force goes on from the checkpoint"

    exports = options.measure or destination.suffix == ".onnx"
    with (
        transformed(stage, replace(request, keep=keep, exports=exports)) as done,
        tempfile.TemporaryDirectory(prefix="optkit-") as name,
    ):
        result = done.outcome.model
        if destination.suffix == ".onnx":
            result = _export(done, result, Path(name) / "result")
        placed = execution.place(result, destination, force=force)
        found = _compared(done, result, destination, Path(name), options) if options.measure else None
        return Transformation(
            output=str(destination),
            stage=done.record.model_copy(update={"result": recording.of_model(placed)}),
            **{name: record for name, record in recording.of_parts(done.parts).items() if name != "evaluation"},
            comparison=found,
            notes=[*done.notes, *(proof.verdict(found) if found else ())],
        )


def _compared(
    done: Transformed, result: Model, destination: Path, folder: Path, options: PruneCommand | DistillCommand
) -> Comparison:
    """Compare source and result in a format that the runtime takes."""
    after = result if result.format == "onnx" else _export(done, result, folder / "after")
    named = after.path.rename(after.path.with_name(f"{destination.stem}.onnx"))
    return proof.compare_with_float(done, replace(after, path=named), options.metric, options.max_drop, options.seconds)


def _export(done: Transformed, model: Model, folder: Path) -> Model:
    request = done.request
    folder.mkdir()
    if model.signature is None:
        raise UsageError(f"{model.path} does not tell its inputs", hint="--input 'x:float32[batch,3,224,224]'")
    request.progress("export", 0, None)
    context = Context(folder, done.parts.calibration, done.parts.evaluation, request.target, request.seed)
    return execution.carry_out(stage_class("export")(), model, context)[0].model
