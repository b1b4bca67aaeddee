"""Records of files: models, signatures, datasets, and what targets refuse of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.record import Record, Root


class TensorRecord(Record):
    """One input or output of a model."""

    name: str
    """The tensor's name in the model."""
    dtype: str
    """The type of its elements: ``float32``, ``int64``, ``string``, …"""
    shape: list[int | str] | None
    """A dimension is its size or, where it is dynamic, its name; null where the rank is unknown."""


class SignatureRecord(Record):
    """The inputs and outputs of a model."""

    inputs: list[TensorRecord]
    """The inputs, in the model's order."""
    outputs: list[TensorRecord]
    """The outputs, in the model's order."""


class ModelRecord(Record):
    """A model on disk."""

    path: str
    """The model's file as it was named."""
    format: str
    """``module``, ``state-dict``, ``torchscript``, ``exported-program``, ``onnx``, ``openvino`` or ``tensorrt``."""
    digest: str
    """SHA-256 of the model's files, in hexadecimal; of a state dict also of the code that builds its module."""
    size_bytes: int
    """Bytes on disk, with external data and weights beside the file."""
    signature: SignatureRecord | None = None
    """Inputs and outputs; null where the file holds none and none was given."""


class DatasetRecord(Record):
    """The samples that were used for one purpose."""

    path: str
    """The file or folder that the samples come from."""
    part: str
    """The part of the split: ``all``, ``training``, ``held-out``, ``calibration``, ``selection`` or ``evaluation``."""
    count: int
    """Number of samples in the part."""
    digest: str
    """SHA-256 over the preprocessing and the samples' contents and labels, in order, in hexadecimal."""
    labelled: bool
    """True if the samples have labels."""


class RefusedNodeRecord(Record):
    """A node that a target does not accept."""

    operator: str
    """The node's operator."""
    node: str
    """The node's name; empty where it has none."""
    reason: str
    """The target's reason."""


class EngineLayerRecord(Record):
    """A kernel of a built engine."""

    name: str
    """The layer's name in the engine."""
    kind: str
    """The runtime's word for the sort of layer."""
    precision: str
    """The dtype that it reads; where it writes another, both: ``float16 to float32``; not of int8 and float8."""
    nodes: list[str] = Field(default_factory=list)
    """Names of the ONNX nodes that are fused into it."""


class Refusal(Record):
    """The answer of one target to a model: accepted, or refused and why."""

    target: str
    """The target that was asked."""
    accepted: bool
    """True if the target loads the model."""
    reason: str | None = None
    """The error, or the operators that are refused; null for an accepted model."""
    nodes: list[RefusedNodeRecord] = Field(default_factory=list)
    """The refused nodes; empty where the target does not name them."""
    layers: list[EngineLayerRecord] = Field(default_factory=list)
    """The layers that the target makes of the model; empty unless the target was asked for and lists them."""


class Inspection(Root):
    """The contents of a model file, and the targets that accept it."""

    schema_: Literal["optkit.inspection/1"] = Field("optkit.inspection/1", alias="schema")
    """Kind of the record and version of its format."""
    model: ModelRecord
    """The inspected model."""
    opsets: dict[str, int] = Field(default_factory=dict)
    """Versions of the operator sets by domain; empty for formats other than ONNX."""
    producer: str | None = None
    """Program and version that wrote the file; null where it does not say."""
    parameters: int | None = None
    """Number of weights, integer constants of shapes and indices aside; null for an engine, which hides them."""
    operators: dict[str, int] = Field(default_factory=dict)
    """Operator counts, subgraphs included; for a torch module, counts of its layers by class."""
    precisions: dict[str, int] = Field(default_factory=dict)
    """Number of parameters by dtype, the most frequent first."""
    sparsity: float | None = None
    """Share of exact zeros in matrices and kernels, from 0 to 1; null where no weights can be read."""
    quantized: str | None = None
    """The method and precision that the model is already quantized with; null when it is not."""
    targets: list[Refusal] = Field(default_factory=list)
    """The answer of each target that was asked."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about the file."""
