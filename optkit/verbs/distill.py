"""``distill``: a smaller student that learns from the model, and the proof of what it kept."""

from __future__ import annotations

from optkit.options.calling import takes
from optkit.options.verbs.distill import DistillCommand
from optkit.progress import Progress
from optkit.records.run import Transformation
from optkit.runs import trained_stage
from optkit.runs.single_stage import StageRequest
from optkit.stages.distill import Distill


@takes(DistillCommand)
def distill(options: DistillCommand, progress: Progress) -> Transformation:
    """Train a student to do what ``teacher`` does and, unless ``measure`` is false, compare both on ``target``.

    The student is a file, the module that ``student_code`` builds, or the teacher with so many of its ``layers`` left.
    Killed, and started again in the same way, it goes on from its last checkpoint. Raises OptkitError.
    """
    request = StageRequest.of(options, progress, model=options.teacher)
    return trained_stage.carry_out(options.part(Distill), request, options)
