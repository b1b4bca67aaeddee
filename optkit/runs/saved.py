"""Saved comparisons: read from a run's folder, its record or ``compare --json``; their models and data found again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from optkit.data import splits
from optkit.data.dataset import Dataset, open_dataset
from optkit.data.description import DataSpec
from optkit.errors import DataError, ModelError, UsageError
from optkit.formats import bundle_manifest, opening
from optkit.formats.model import Model
from optkit.formats.tensors import TensorSpec
from optkit.measurement.candidate import TIME_LIMIT, Candidate, resolve_candidate
from optkit.options import validation
from optkit.options.rules import Rules
from optkit.records.comparison import Comparison, Row
from optkit.records.machine import Machine
from optkit.records.model import DatasetRecord, ModelRecord
from optkit.runs import run_folder
from optkit.runs.recipe import Recipe
from optkit.targets.target import target

_CHANGED = "changed since it was recorded (its digest differs)"


@dataclass(frozen=True)
class Saved:
    """A comparison read from a file."""

    folder: Path
    """The folder that the file is in."""
    comparison: Comparison
    chosen: str | None = None
    """Title of the row that the run chose; ``None`` if the comparison is of no run."""
    recipe: Recipe | None = None
    """The run's recipe without its stages, which are carried out already."""

    @property
    def rules(self) -> Rules:
        """The rules of the recipe's gate."""
        return (self.recipe and self.recipe.gate) or Rules()


def is_record(path: Path) -> bool:
    """Return True if ``path`` is a record and no model: the folder of a run, or a JSON file."""
    if path.is_dir():
        return (path / run_folder.RECORD).is_file()
    return path.is_file() and path.suffix == ".json"


def read(path: Path) -> Saved:
    """Read the record at ``path``, or in the folder of a run. Raises UsageError, ModelError."""
    if path.is_dir() or _schema(path) == "optkit.run/1":
        return _of_run(path)
    try:
        return Saved(path.parent, Comparison.model_validate_json(path.read_bytes()))
    except ValidationError as error:
        raise ModelError(
            f"{path}: not a saved comparison: {validation.first_error(error)}",
            hint="give the folder of a run, its record.json, or what optkit compare --json printed",
        ) from None


def _of_run(path: Path) -> Saved:
    run = run_folder.read(path)
    if run.comparison is None:
        raise UsageError(f"{path}: the run compared nothing", hint="give a recipe with targets and run it again")
    try:
        recipe = Recipe.model_validate(run.recipe | {"stages": []})
    except ValidationError as error:
        raise ModelError(f"{path}: recipe.{validation.first_error(error)}") from None
    folder = path if path.is_dir() else path.parent
    return Saved(folder, run.comparison, run.chosen, recipe)


def _schema(path: Path) -> str | None:
    if not path.is_file():
        raise UsageError(f"{path}: no such file", hint="give the folder of a run, or a record")
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return None
    schema = document.get("schema") if isinstance(document, dict) else None
    return schema if isinstance(schema, str) else None


def candidate(
    saved: Saved,
    row: Row,
    *,
    threads: int | None = None,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
) -> Candidate:
    """Return the model of ``row`` to be run as it was: on its target, with its options, ``threads`` or else its own.

    Raises ModelError where it is missing or another, OptkitError where it cannot be opened here.
    """
    if row.model is None:
        raise ModelError(f"{row.title}: the record names no model")
    model = _model(saved, row.model, inputs, code, trust)
    signature = (
        model.signature if inputs or row.model.signature is None else bundle_manifest.signature(row.model.signature)
    )
    options = _without_all_cores(row.options, target(row.target).thread_options, saved.comparison.machine)
    as_it_was = replace(model, signature=signature, target=row.target, options=options)
    found = resolve_candidate(as_it_was, threads=threads or saved.comparison.threads, time_limit=time_limit)
    return replace(found, name=row.name)


def dataset(saved: Saved, given: str | Path | None, inputs: Sequence[TensorSpec] | None) -> Dataset | None:
    """Return the samples of the record, out of ``given`` or of the data that it names; ``None`` where it used none.

    Raises DataError where they are missing or others.
    """
    wanted = saved.comparison.data
    if wanted is None:
        return None
    specs = [DataSpec(path=str(given))] if given is not None else _specs(saved, wanted)
    for part in _parts(specs, inputs, saved.recipe):
        if part.digest == wanted.digest:
            return replace(part, part=wanted.part)
    raise DataError(f"{specs[0].path}: {_CHANGED}")


def _model(saved: Saved, wanted: ModelRecord, inputs: tuple[str, ...], code: str | None, trust: bool) -> Model:
    places = _places(saved, wanted.path, ModelError)
    for place in places:
        model = opening.open(place, inputs=inputs, code=code, trust=trust)
        if model.digest == wanted.digest:
            return model
    raise ModelError(f"{places[0]}: {_CHANGED}")


def _parts(specs: Sequence[DataSpec], inputs: Sequence[TensorSpec] | None, recipe: Recipe | None) -> Iterator[Dataset]:
    """Yield the parts of the data that the record's samples may be: all of it, or a run's evaluation split."""
    for spec in specs:
        whole = open_dataset(spec, inputs)
        yield whole
        if recipe is not None and recipe.calibration is None:
            yield splits.split(whole, calibration_samples=recipe.calibration_samples, seed=recipe.seed)[1]


def _specs(saved: Saved, wanted: DatasetRecord) -> list[DataSpec]:
    """Return descriptions of the record's data, from its recipe or its path alone, for each place where that exists."""
    spec = (saved.recipe and saved.recipe.data) or DataSpec(path=wanted.path)
    if Path(spec.path).suffix.startswith(".py"):
        raise DataError(f"{spec.path}: data made by code, which a record cannot start", hint="give it again: --data")
    text = spec.text
    if text is not None:
        text = text.model_copy(update={"tokenizer": str(_places(saved, text.tokenizer, DataError)[0])})
    places = _places(saved, spec.path, DataError)
    return [spec.model_copy(update={"path": str(place), "text": text}) for place in places]


def _places(saved: Saved, recorded: str, failure: type[ModelError] | type[DataError]) -> list[Path]:
    """Return the existing places of a path: as recorded, or in the record's own folder under any end of it (runs move).

    Raises ``failure`` where it is nowhere.
    """
    path = Path(recorded)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    inside = (saved.folder.joinpath(*parts[start:]) for start in range(len(parts)))
    there = [place for place in (path, *inside) if place.exists()]
    if not there:
        raise failure(f"{recorded}: no such file, nor one in {saved.folder}")
    return there


def _without_all_cores(options: dict[str, Any], threads: Sequence[str], there: Machine) -> dict[str, Any]:
    """Return the options without those of ``threads`` whose value is all cores of that machine."""
    everything = max(1, int(there.cores_allowed))
    return {key: value for key, value in options.items() if key not in threads or value != everything}
