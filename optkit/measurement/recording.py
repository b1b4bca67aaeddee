"""Records of models, signatures and datasets that are open in memory."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.data.dataset import Dataset
from optkit.data.splits import Parts
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.records.model import DatasetRecord, ModelRecord, SignatureRecord, TensorRecord


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


def _tensors(specs: Sequence[TensorSpec]) -> list[TensorRecord]:
    shapes = [None if spec.shape is None else list(spec.shape) for spec in specs]
    return [
        TensorRecord(name=spec.name, dtype=spec.dtype, shape=shape) for spec, shape in zip(specs, shapes, strict=True)
    ]
