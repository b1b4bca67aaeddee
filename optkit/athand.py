"""What a saved record names, found again: a model or data counts only where its digest is the recorded one.

A record is untrusted input. It may name files, which are opened as any file is; it may not make us run code: that of a
state dict, a pickle or data has to be given again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optkit.data import dataset as datasets
from optkit.data import splits
from optkit.data.dataset import Dataset
from optkit.data.description import DataSpec
from optkit.errors import DataError, ModelError
from optkit.formats import bundle_manifest
from optkit.formats import model as models
from optkit.formats.model import Model
from optkit.formats.tensors import TensorSpec
from optkit.measurement import worker
from optkit.measurement.worker import Candidate
from optkit.recipe import Recipe
from optkit.records.record import DatasetRecord, Machine, ModelRecord, Row
from optkit.saved import Saved

_CHANGED = "changed since it was recorded (its digest differs)"


def candidate(
    saved: Saved,
    row: Row,
    *,
    threads: int | None = None,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = worker.TIME_LIMIT,
) -> Candidate:
    """The model of ``row`` to be run as it was: on its target, with its options, ``threads`` or else its own.

    Raises ModelError where it is missing or another, OptkitError where it cannot be opened here.
    """
    if row.model is None:
        raise ModelError(f"{row.title}: the record names no model")
    model = _model(saved, row.model, inputs, code, trust)
    signature = (
        model.signature if inputs or row.model.signature is None else bundle_manifest.signature(row.model.signature)
    )
    options = _without_all_cores(row.options, saved.comparison.machine)
    as_it_was = replace(model, signature=signature, target=row.target, options=options)
    found = worker.candidate(as_it_was, threads=threads or saved.comparison.threads, time_limit=time_limit)
    return replace(found, name=row.name)


def dataset(saved: Saved, given: str | Path | None, inputs: Sequence[TensorSpec] | None) -> Dataset | None:
    """The samples of the record, out of ``given`` or of what the record names; ``None`` where it used none.

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
        model = models.open(place, inputs=inputs, code=code, trust=trust)
        if model.digest == wanted.digest:
            return model
    raise ModelError(f"{places[0]}: {_CHANGED}")


def _parts(specs: Sequence[DataSpec], inputs: Sequence[TensorSpec] | None, recipe: Recipe | None) -> Iterator[Dataset]:
    """What the record's samples may be of the data: all of it, or what a run split off for evaluation."""
    for spec in specs:
        whole = datasets.open(spec, inputs)
        yield whole
        if recipe is not None and recipe.calibration is None:
            yield splits.split(whole, calibration_samples=recipe.calibration_samples, seed=recipe.seed)[1]


def _specs(saved: Saved, wanted: DatasetRecord) -> list[DataSpec]:
    """How the record reads its data, as its recipe says or from its path alone, wherever that may lie."""
    spec = (saved.recipe and saved.recipe.data) or DataSpec(path=wanted.path)
    if Path(spec.path).suffix.startswith(".py"):
        raise DataError(f"{spec.path}: data made by code, which a record cannot start", hint="give it again: --data")
    text = spec.text
    if text is not None:
        text = text.model_copy(update={"tokenizer": str(_places(saved, text.tokenizer, DataError)[0])})
    places = _places(saved, spec.path, DataError)
    return [spec.model_copy(update={"path": str(place), "text": text}) for place in places]


def _places(saved: Saved, recorded: str, failure: type[ModelError] | type[DataError]) -> list[Path]:
    """Where it may be: as recorded, or in the record's own folder under any end of that path, for a run may have moved.

    Raises ``failure`` where it is nowhere.
    """
    path = Path(recorded)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    inside = (saved.folder.joinpath(*parts[start:]) for start in range(len(parts)))
    there = [place for place in (path, *inside) if place.exists()]
    if not there:
        raise failure(f"{recorded}: no such file, nor one in {saved.folder}")
    return there


def _without_all_cores(options: dict[str, Any], there: Machine) -> dict[str, Any]:
    """The options without a number of threads that only said: all cores of that machine."""
    everything = max(1, int(there.cores_allowed))
    return {key: value for key, value in options.items() if "threads" not in key.lower() or value != everything}
