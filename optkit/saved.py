"""Saved records: the comparison in a run's folder, in its record, or in what ``optkit compare --json`` printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from optkit import runfolder
from optkit.decisions.gate import Rules
from optkit.errors import ModelError, UsageError
from optkit.recipe import Recipe
from optkit.records.record import Comparison


@dataclass(frozen=True)
class Saved:
    """A comparison out of a file in ``folder``; of a run also the title of the row that it chose, and its recipe
    without the stages, which are carried out already.
    """

    folder: Path
    comparison: Comparison
    chosen: str | None = None
    recipe: Recipe | None = None

    @property
    def rules(self) -> Rules:
        """Those of the recipe's gate."""
        return (self.recipe and self.recipe.gate) or Rules()


def is_record(path: Path) -> bool:
    """Whether there is a record at ``path``, and no model: a run's folder, or JSON."""
    if path.is_dir():
        return (path / runfolder.RECORD).is_file()
    return path.is_file() and path.suffix == ".json"


def read(path: Path) -> Saved:
    """The record at ``path``, or in the folder of a run. Raises UsageError, ModelError."""
    if path.is_dir() or _schema(path) == "optkit.run/1":
        return _of_run(path)
    try:
        return Saved(path.parent, Comparison.model_validate_json(path.read_bytes()))
    except ValidationError as error:
        raise ModelError(
            f"{path}: no saved comparison: {_first(error)}",
            hint="give the folder of a run, its record.json, or what optkit compare --json printed",
        ) from None


def _of_run(path: Path) -> Saved:
    run = runfolder.read(path)
    if run.comparison is None:
        raise UsageError(f"{path}: the run compared nothing", hint="give a recipe with targets and run it again")
    try:
        recipe = Recipe.model_validate(run.recipe | {"stages": []})
    except ValidationError as error:
        raise ModelError(f"{path}: recipe.{_first(error)}") from None
    folder = path if path.is_dir() else path.parent
    return Saved(folder, run.comparison, run.chosen, recipe)


def _first(error: ValidationError) -> str:
    """The first of pydantic's complaints, with its place."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _schema(path: Path) -> str | None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file", hint="give the folder of a run, or a record")
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return None
    schema = document.get("schema") if isinstance(document, dict) else None
    return schema if isinstance(schema, str) else None
