"""``run``: carry out a recipe."""

from __future__ import annotations

from optkit.options.calling import takes
from optkit.options.verbs.run import RunCommand
from optkit.progress import Progress
from optkit.records.run import Run
from optkit.runs import pipeline, run_folder
from optkit.runs.recipe import read_recipe


@takes(RunCommand)
def run(options: RunCommand, progress: Progress) -> Run:
    """Carry out ``recipe``, with ``settings`` (``a.b=value``) put in, into the folder ``output``.

    A branch that failed says why in the record. Raises OptkitError where there is no result at all.
    """
    read = read_recipe(options.recipe, options.settings)
    folder = options.output or run_folder.default(options.recipe)
    return pipeline.run(read, options.recipe, folder, force=options.force, progress=progress)
