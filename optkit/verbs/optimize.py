"""``optimize``: search the best model inside the bound, and hand out its bundle, its recipe and the proof."""

from __future__ import annotations

from optkit.formats import bundle_manifest
from optkit.options.calling import takes
from optkit.options.verbs.optimize import OptimizeCommand
from optkit.progress import Progress
from optkit.records.run import Run
from optkit.search.delivery import Optimization
from optkit.system import atomic


@takes(OptimizeCommand)
def optimize(options: OptimizeCommand, progress: Progress) -> Run:
    """Search for the best form of ``model`` whose loss is at most ``max_drop``, for ``budget`` seconds at most.

    The bundle goes to ``output``; recipe, record and report to the folder ``OUTPUT-search``. The original is the result
    where nothing beats it. With ``train_data``, pruned and trained forms of a torch module are tried, too. Killed, and
    started again in the same way, it goes on. Without ``calibration_samples``, large models calibrate on fewer. Raises
    OptkitError.
    """
    atomic.claim(options.output, force=options.force, marker=bundle_manifest.FILE_NAME)
    return Optimization(options, progress).run()
