"""Records of models, signatures, datasets and runs that are open in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from optkit import units
from optkit.data.dataset import Dataset
from optkit.data.splits import Parts
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.notes import Note
from optkit.records.comparison import Comparison
from optkit.records.model import DatasetRecord, ModelRecord, SignatureRecord, TensorRecord
from optkit.records.run import Branch, Run
from optkit.targets import libraries
from optkit.version import VERSION


def of_model(model: Model) -> ModelRecord:
    """Return the model's record; its size includes the files beside it."""
    return ModelRecord(
        path=str(model.path),
        format=model.format,
        digest=model.digest,
        size_bytes=model.size_bytes,
        signature=None if model.signature is None else of_signature(model.signature),
    )


def of_signature(signature: Signature) -> SignatureRecord:
    """Return the signature's record."""
    return SignatureRecord(inputs=_tensors(signature.inputs), outputs=_tensors(signature.outputs))


def of_dataset(dataset: Dataset) -> DatasetRecord:
    """Return the dataset's record; computing its digest reads every sample."""
    return DatasetRecord(
        path=str(dataset.source.path),
        part=dataset.part,
        count=len(dataset),
        digest=dataset.digest,
        labelled=dataset.labelled,
    )


def of_parts(parts: Parts) -> dict[str, DatasetRecord | None]:
    """Return the records of training, calibration and evaluation data, under these names."""
    named = {"training": parts.training, "calibration": parts.calibration, "evaluation": parts.evaluation}
    return {name: None if part is None else of_dataset(part) for name, part in named.items()}


def of_run(
    recipe: dict[str, Any],
    recipe_path: str | Path,
    model: Model,
    parts: Parts,
    *,
    started: datetime,
    seconds: float,
    branches: Sequence[Branch],
    comparison: Comparison,
    chosen: str,
    notes: Sequence[Note],
) -> Run:
    """Return the record of a run on this machine that ``started`` then and took ``seconds``.

    ``recipe`` is the recipe's document and ``chosen`` the title of the row that is the result. The evaluation data is
    that of the comparison, which may be a part of what was given.
    """
    data = of_parts(parts)
    return Run(
        recipe=recipe,
        recipe_path=str(recipe_path),
        optkit=VERSION,
        started=units.timestamp(started),
        seconds=seconds,
        model=of_model(model),
        training=data["training"],
        calibration=data["calibration"],
        evaluation=comparison.data or data["evaluation"],
        branches=list(branches),
        comparison=comparison,
        chosen=chosen,
        machine=libraries.fingerprint(),
        notes=list(notes),
    )


def _tensors(specs: Sequence[TensorSpec]) -> list[TensorRecord]:
    shapes = [None if spec.shape is None else list(spec.shape) for spec in specs]
    return [
        TensorRecord(name=spec.name, dtype=spec.dtype, shape=shape) for spec, shape in zip(specs, shapes, strict=True)
    ]
