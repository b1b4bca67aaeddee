"""The manifest of a bundle, ``manifest.json``: read, and every file checked against it before it is used."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError

from optkit.errors import ModelError
from optkit.formats.tensors import Signature, TensorSpec
from optkit.options.validation import first_error
from optkit.records.comparison import QualityRecord
from optkit.records.machine import Machine
from optkit.records.model import SignatureRecord, TensorRecord
from optkit.records.record import Record, Root
from optkit.system import digests

FILE_NAME = "manifest.json"
_REMAKE = "make it again: optkit compile MODEL --target TARGET -o BUNDLE"


class Speedup(Record):
    """The speed-up over a baseline, with its 95 % interval."""

    ratio: float
    """Time of the baseline over the bundle's time; above 1 is faster."""
    low: float
    """The interval's lower end."""
    high: float
    """The interval's upper end."""
    baseline: str
    """The model that it is compared with."""


class MadeBy(Record):
    """The origin of a bundle."""

    stages: list[dict[str, Any]] = Field(default_factory=list)
    """The stages in order, each with ``stage``, ``engine``, ``method`` and its options; empty without any."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the installed libraries, by name."""
    machine: Machine | None = None
    """The machine that the bundle was made on; null where unknown."""


class Manifest(Root):
    """All that is needed to run a bundle, with optkit or without."""

    schema_: Literal["optkit.bundle/1"] = Field("optkit.bundle/1", alias="schema")
    """Kind of the record and version of its format."""
    target: str
    """The target that the bundle runs on."""
    model: str
    """The model's file, relative to the bundle."""
    format: Literal["module", "state-dict", "torchscript", "exported-program", "onnx", "openvino", "tensorrt"]
    """The format of the model's file."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Every runtime option that matters, spelled as the runtime spells it."""
    signature: SignatureRecord
    """The model's inputs and outputs."""
    quality: QualityRecord | None = None
    """The quality that was measured; null where none was."""
    speedup: Speedup | None = None
    """The speed-up that was measured; null where none was, and for the baseline itself."""
    digests: dict[str, str]
    """SHA-256 of every file, in hexadecimal, by its path relative to the bundle."""
    made_by: MadeBy = Field(default_factory=MadeBy)
    """The origin of the bundle."""


def read(folder: Path) -> Manifest:
    """Read the manifest of the bundle at ``folder`` and check its files against their digests.

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
    """Return the signature that ``record`` describes."""
    return Signature(_specs(record.inputs), _specs(record.outputs))


def _parse(path: Path) -> Manifest:
    if not path.is_file():
        raise ModelError(f"{path.parent}: a folder without {FILE_NAME} is not a bundle", hint="name a model file in it")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(f"{path}: {first_error(error)}", hint=_REMAKE) from None


def _inside(folder: Path, name: str) -> Path:
    """Return the path of the file ``name`` of the bundle. Raises ModelError if its path or a link leads out of it."""
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
