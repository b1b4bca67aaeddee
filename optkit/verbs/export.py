"""``export``: torch to ONNX, dynamic dimensions kept, parity checked."""

from __future__ import annotations

from optkit.measurement import recording
from optkit.options.calling import takes
from optkit.options.verbs.export import ExportCommand
from optkit.progress import Progress
from optkit.records.run import Transformation
from optkit.runs.execution import place
from optkit.runs.single_stage import StageRequest, transformed
from optkit.stages.export import Export
from optkit.system import atomic


@takes(ExportCommand)
def export(options: ExportCommand, progress: Progress) -> Transformation:
    """Write ``model`` as ONNX to ``output``. Raises ParityError where the result computes something else."""
    atomic.claim(options.output, force=options.force, suffixes=(".onnx",))
    with transformed(options.part(Export), StageRequest.of(options, progress)) as done:
        placed = place(done.outcome.model, options.output, force=options.force)
        stage = done.record.model_copy(update={"result": recording.of_model(placed)})
        return Transformation(output=str(options.output), stage=stage)
