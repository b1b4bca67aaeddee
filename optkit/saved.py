"""Saved records: the comparison in a run's folder, in its record, or in what ``optkit compare --json`` printed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from optkit import runfolder
from optkit.errors import ModelError, UsageError
from optkit.results import Comparison
from optkit.rules import Rules


@dataclass(frozen=True)
class Saved:
    """A comparison out of a file; of a run also the title of the row that it chose, and the rules of its recipe."""

    comparison: Comparison
    chosen: str | None = None
    rules: Rules = field(default_factory=Rules)


def read(path: Path) -> Saved:
    """The record at ``path``, or in the folder of a run. Raises UsageError, ModelError."""
    if path.is_dir() or _schema(path) == "optkit.run/1":
        return _of_run(path)
    try:
        return Saved(Comparison.model_validate_json(path.read_bytes()))
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
        rules = Rules.model_validate(run.recipe.get("gate") or {})
    except ValidationError as error:
        raise ModelError(f"{path}: recipe.gate: {_first(error)}") from None
    return Saved(run.comparison, run.chosen, rules)


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
