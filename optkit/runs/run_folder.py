"""The folder of a run: the recipe is written first and the record last, so a folder without a record is unfinished.

An unfinished run goes on when it is started again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from optkit.errors import ModelError, OutputError, UsageError
from optkit.options import validation
from optkit.records.run import Run
from optkit.runs.recipe import Recipe
from optkit.system import atomic

RECORD = "record.json"
RECIPE = "recipe.yaml"
BUNDLE = "bundle"
BUNDLES = "bundles"


def default(recipe_path: str | Path) -> Path:
    """Return ``runs/NAME-20260102-030405``, relative to the current folder."""
    return Path("runs") / f"{Path(recipe_path).stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def prepare(folder: Path, recipe: Recipe, *, force: bool = False) -> None:
    """Prepare ``folder`` for a run of ``recipe``: make it, or go on in the folder of an unfinished run of that recipe.

    Raises OutputError if the folder holds anything else; ``force`` replaces an earlier run, and nothing else.
    """
    text = recipe_text(recipe)
    if not _resumable(folder, text):
        if not force:
            raise OutputError(f"{folder}: exists already", hint="choose another with -o, or replace it with --force")
        if not (folder / RECIPE).is_file():
            raise OutputError(
                f"{folder}: not the folder of a run, so --force does not replace it", hint="choose another with -o"
            )
        shutil.rmtree(folder)
    _clear_leftovers(folder)
    atomic.make_writable(folder.parent)
    folder.mkdir(exist_ok=True)
    atomic.write_text(folder / RECIPE, text, force=True)


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe as YAML, with all settings in it and absolute paths, so that it runs from the run's folder."""
    document = recipe.beside(Path.cwd()).document()
    head = "# The recipe as it was carried out: every default and setting made explicit.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def link_bundle(folder: Path, bundle: str | None) -> None:
    """Point the link ``bundle`` to the chosen bundle, or remove it."""
    link = folder / BUNDLE
    link.unlink(missing_ok=True)
    if bundle is not None:
        link.symlink_to(f"{BUNDLES}/{bundle}", target_is_directory=True)


def finish(folder: Path, run: Run, reports: Mapping[str, str]) -> None:
    """Write the reports (text by file name) and then the record, which marks the run as finished."""
    for name, text in reports.items():
        atomic.write_text(folder / name, text, force=True)
    atomic.write_text(folder / RECORD, run.to_json() + "\n", force=True)


def read(path: str | Path) -> Run:
    """Read the record of a run from its folder or its file. Raises UsageError, ModelError."""
    given = Path(path)
    file = given / RECORD if given.is_dir() else given
    if not file.is_file():
        known = given.is_dir() and (given / RECIPE).is_file()
        hint = f"the run is unfinished; go on: optkit run {given / RECIPE} -o {given}" if known else None
        raise UsageError(f"{file}: no such file", hint=hint)
    try:
        return Run.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ModelError(
            f"{file}: not the record of a run: {validation.first_error(error)}",
            hint="where another version of optkit wrote it, run its recipe again: optkit run RECIPE",
        ) from None


def _clear_leftovers(folder: Path) -> None:
    """Remove temporary folders of a killed run."""
    for leftover in (*folder.glob(f"{atomic.ASIDE}*"), *folder.glob(f"{BUNDLES}/{atomic.ASIDE}*")):
        shutil.rmtree(leftover)


def _resumable(folder: Path, recipe_text: str) -> bool:
    if not folder.exists():
        return True
    if folder.is_dir() and all(entry.name.startswith(atomic.ASIDE) for entry in folder.iterdir()):
        return True
    own = folder / RECIPE
    if not own.is_file() or (folder / RECORD).exists():
        return False
    try:  # another version may have written the keys in another order
        return bool(yaml.safe_load(own.read_bytes()) == yaml.safe_load(recipe_text))
    except yaml.YAMLError:
        return False
