"""``prune``: a smaller graph of the same model, trained again, and the proof of what it kept."""

from __future__ import annotations

from optkit.options.calling import takes
from optkit.options.verbs.prune import PruneCommand
from optkit.progress import Progress
from optkit.records.run import Transformation
from optkit.runs import trained_stage
from optkit.runs.single_stage import StageRequest
from optkit.stages.prune import Prune


@takes(PruneCommand)
def prune(options: PruneCommand, progress: Progress) -> Transformation:
    """Cut ``model`` by ``sparsity``, to a measured ``target_speedup`` or by whole layers, let it learn again, and
    compare both on ``target`` unless ``measure`` is false.

    Killed, and started again in the same way, it goes on from its last checkpoint. Raises OptkitError.
    """
    return trained_stage.carry_out(options.part(Prune), StageRequest.of(options, progress), options)
