"""Saved records: the comparison in a run's folder, in its record, or in what ``optkit compare --json`` printed."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from optkit import runfolder
from optkit.errors import ModelError, UsageError
from optkit.results import Comparison


def comparison(path: Path) -> tuple[Comparison, str | None]:
    """The comparison and, of a run, the title of the row that it chose. Raises UsageError, ModelError."""
    if path.is_dir() or _schema(path) == "optkit.run/1":
        run = runfolder.read(path)
        if run.comparison is None:
            raise UsageError(f"{path}: the run compared nothing", hint="give a recipe with targets and run it again")
        return run.comparison, None if run.chosen == run.comparison.rows[0].title else run.chosen
    try:
        return Comparison.model_validate_json(path.read_bytes()), None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{path}: no saved comparison: {where + ': ' if where else ''}{first['msg']}",
            hint="give the folder of a run, its record.json, or what optkit compare --json printed",
        ) from None


def _schema(path: Path) -> str | None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file", hint="give the folder of a run, or a record")
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return None
    schema = document.get("schema") if isinstance(document, dict) else None
    return schema if isinstance(schema, str) else None
