"""``run``: carry out a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.progress import Progress, no_progress
from optkit.records.run import Run
from optkit.runs import pipeline, run_folder
from optkit.runs import recipe as recipes


def run(
    recipe: str | Path,
    *,
    settings: Sequence[str] = (),
    output: str | Path | None = None,
    force: bool = False,
    progress: Progress = no_progress,
) -> Run:
    """Carry out ``recipe``, with ``settings`` (``a.b=value``) put in, into the folder ``output``.

    A branch that failed says why in the record. Raises OptkitError where there is no result at all.
    """
    read = recipes.read(recipe, settings)
    folder = run_folder.default(recipe) if output is None else Path(output)
    return pipeline.run(read, recipe, folder, force=force, progress=progress)
