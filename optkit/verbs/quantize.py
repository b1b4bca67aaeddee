"""``quantize``: lower precision in one line, and the proof of what it brought."""

from __future__ import annotations

from pathlib import Path

from optkit.formats.model import Model
from optkit.measurement import recording
from optkit.options.calling import takes
from optkit.options.verbs.quantize import QuantizeCommand
from optkit.progress import Progress
from optkit.records.run import Transformation
from optkit.runs import proof
from optkit.runs.execution import place
from optkit.runs.single_stage import StageRequest, transformed
from optkit.stages.quantize import Quantize
from optkit.system import atomic
from optkit.targets.target import offered
from optkit.targets.target import target as runtime


@takes(QuantizeCommand)
def quantize(options: QuantizeCommand, progress: Progress) -> Transformation:
    """Quantize ``model`` for ``target`` and, unless ``measure`` is false, compare the result with it.

    Without ``output`` the result lies beside the model, as ``MODEL-int8.onnx``, with the suffix of the target's files.
    Raises OptkitError.
    """
    destination = options.output or _beside(options)
    atomic.claim(destination, force=options.force, suffixes=tuple(each.precisions.suffix for each in offered()))

    def keep(best: Model) -> str:
        place(best, destination, force=options.force)
        return f"the best so far is {destination}; the same command with --force goes on from the checkpoint"

    request = StageRequest.of(options, progress, keep=keep)
    with transformed(options.part(Quantize), request) as done:
        placed = place(done.outcome.model, destination, force=options.force)
        compared = (
            proof.compare_with_float(done, placed, options.metric, options.max_drop, options.seconds)
            if options.measure
            else None
        )
        return Transformation(
            output=str(destination),
            stage=done.record.model_copy(update={"result": recording.of_model(placed)}),
            training=done.parts.training and recording.of_dataset(done.parts.training),
            calibration=done.parts.calibration and recording.of_dataset(done.parts.calibration),
            comparison=compared,
            notes=[*done.notes, *(proof.verdict(compared) if compared else ())],
        )


def _beside(options: QuantizeCommand) -> Path:
    model = Path(options.model)
    types = options.precision if options.floats == "float32" else f"{options.precision}-{options.floats}"
    return model.parent / f"{model.stem}-{types}{runtime(options.target).precisions.suffix}"
