"""Records of files: models, signatures, datasets, and what targets refuse of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.record import Record, Root


class TensorRecord(Record):
    """One input or output; a dimension is a size or a name."""

    name: str
    dtype: str
    shape: list[int | str] | None


class SignatureRecord(Record):
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]


class ModelRecord(Record):
    """A model on disk. ``size_bytes`` includes external data and weights beside it."""

    path: str
    format: str
    digest: str
    size_bytes: int
    signature: SignatureRecord | None = None


class DatasetRecord(Record):
    """Which samples were used: their file, how many, a digest over their contents, which part of a split."""

    path: str
    part: str
    count: int
    digest: str
    labelled: bool


class RefusedNodeRecord(Record):
    """A node that a target does not take; ``node`` is its name, empty where it has none."""

    operator: str
    node: str
    reason: str


class EngineLayerRecord(Record):
    """A kernel of a built engine: what it reads (and makes, where that is another type), the ONNX nodes in it."""

    name: str
    kind: str
    precision: str
    nodes: list[str] = Field(default_factory=list)


class Refusal(Record):
    """What a target would refuse in a model; ``accepted`` with no reason when nothing.

    ``nodes`` are those refused, where the target names them; ``layers`` what it makes of the model, where it tells.
    """

    target: str
    accepted: bool
    reason: str | None = None
    nodes: list[RefusedNodeRecord] = Field(default_factory=list)
    layers: list[EngineLayerRecord] = Field(default_factory=list)


class Inspection(Root):
    """What a model file is."""

    schema_: Literal["optkit.inspection/1"] = Field("optkit.inspection/1", alias="schema")
    model: ModelRecord
    opsets: dict[str, int] = Field(default_factory=dict)
    producer: str | None = None
    parameters: int | None = None
    operators: dict[str, int] = Field(default_factory=dict)
    """Operator counts, subgraphs included."""
    precisions: dict[str, int] = Field(default_factory=dict)
    """Parameters by dtype."""
    sparsity: float | None = None
    """Share of weights that are exactly zero."""
    quantized: str | None = None
    """How the model is quantized already; null when it is not."""
    targets: list[Refusal] = Field(default_factory=list)
    notes: list[Note] = Field(default_factory=list)
