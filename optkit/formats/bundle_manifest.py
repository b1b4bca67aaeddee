"""What a bundle says of itself: ``manifest.json``, read and checked. Nothing in a bundle is believed before it fits."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError

from optkit.errors import ModelError
from optkit.formats.tensors import Signature, TensorSpec
from optkit.records.comparison import QualityRecord
from optkit.records.machine import Machine
from optkit.records.model import SignatureRecord, TensorRecord
from optkit.records.record import Record, Root
from optkit.system import digests

FILE_NAME = "manifest.json"
_REMAKE = "make it again: optkit compile MODEL --target TARGET -o BUNDLE"


class Speedup(Record):
    """Time of ``baseline`` over the bundle's time, with its interval."""

    ratio: float
    low: float
    high: float
    baseline: str


class MadeBy(Record):
    """How the bundle came about: each stage with its fields, the versions and the machine."""

    stages: list[dict[str, Any]] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine | None = None


class Manifest(Root):
    """All that one needs to know to run a bundle, with optkit or without."""

    schema_: Literal["optkit.bundle/1"] = Field("optkit.bundle/1", alias="schema")
    target: str
    model: str
    """The model's file, relative to the bundle."""
    format: Literal["module", "state-dict", "torchscript", "exported-program", "onnx", "openvino", "tensorrt"]
    options: dict[str, Any] = Field(default_factory=dict)
    """Every runtime option that matters, spelled as the runtime spells it."""
    signature: SignatureRecord
    quality: QualityRecord | None = None
    speedup: Speedup | None = None
    digests: dict[str, str]
    """SHA-256 of every file, by its path relative to the bundle."""
    made_by: MadeBy = Field(default_factory=MadeBy)


def read(folder: Path) -> Manifest:
    """The manifest of the bundle at ``folder``, its files checked against their digests.

    Raises ModelError for a manifest that is missing, broken or of another schema, a path that leaves the folder, a
    file that is missing, not listed or changed.
    """
    manifest = _parse(folder / FILE_NAME)
    if manifest.model not in manifest.digests:
        raise ModelError(f"{folder / FILE_NAME}: digests: the model {manifest.model!r} is not listed", hint=_REMAKE)
    for name, digest in manifest.digests.items():
        if digests.sha256(_inside(folder, name)) != digest:
            raise ModelError(f"{folder / name}: changed since the bundle was made (its digest differs)", hint=_REMAKE)
    return manifest


def signature(record: SignatureRecord) -> Signature:
    """The signature that ``record`` describes."""
    return Signature(_specs(record.inputs), _specs(record.outputs))


def _parse(path: Path) -> Manifest:
    if not path.is_file():
        raise ModelError(f"{path.parent}: a folder without {FILE_NAME} is not a bundle", hint="name a model file in it")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {where + ': ' if where else ''}{first['msg']}", hint=_REMAKE) from None


def _inside(folder: Path, name: str) -> Path:
    """The file ``name`` of the bundle; it may lead out of the folder neither by its path nor by a link."""
    relative = PurePosixPath(name)
    root, path = folder.resolve(), folder / name
    if relative.is_absolute() or ".." in relative.parts or not path.resolve().is_relative_to(root):
        raise ModelError(f"{folder / FILE_NAME}: the path {name!r} leaves the bundle", hint=_REMAKE)
    if not path.is_file():
        raise ModelError(f"{path}: the manifest lists this file, but it is missing", hint=_REMAKE)
    return path


def _specs(records: list[TensorRecord]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(record.name, record.dtype, None if record.shape is None else tuple(record.shape))
        for record in records
    )
