"""The folder beside a search's bundle: the journal while it is under way; then recipe, reports, and last the record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optkit.errors import OutputError
from optkit.journal import Journal
from optkit.records.run import Run
from optkit.runs import run_folder
from optkit.runs.recipe import Recipe
from optkit.system import atomic

JOURNAL = "trials.jsonl"


def beside(bundle: Path) -> Path:
    """``OUT`` -> ``OUT-search``."""
    return bundle.parent / f"{bundle.name}-search"


def prepare(folder: Path, settings: Mapping[str, Any], *, force: bool = False) -> Journal:
    """Make ``folder`` ready: a new one, or one in which a search was killed, which goes on if it is the same.

    Raises OutputError for one that holds something else; ``force`` replaces a finished search, and nothing else.
    """
    finished = (folder / run_folder.RECORD).is_file()
    if folder.exists() and not finished and not (folder / JOURNAL).is_file() and any(folder.iterdir()):
        raise OutputError(
            f"{folder}: is no search's folder, and the search would write there", hint="choose another -o"
        )
    if finished and not force:
        raise OutputError(f"{folder}: exists already", hint="choose another -o, or replace it with --force")
    if finished:
        shutil.rmtree(folder)
    atomic.make_writable(folder.parent)
    return Journal(folder / JOURNAL, settings)


def finish(folder: Path, recipe: Recipe, run: Run, reports: Mapping[str, str]) -> None:
    """Write the recipe that makes the result again, the reports, and last the record; the journal has done its work."""
    folder.mkdir(exist_ok=True)
    atomic.write_text(folder / run_folder.RECIPE, run_folder.recipe_text(recipe), force=True)
    run_folder.finish(folder, run, reports)
    (folder / JOURNAL).unlink(missing_ok=True)
