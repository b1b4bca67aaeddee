"""The records of why a candidate differs from a baseline: where time and quality went, what caused it, what to try."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.comparison import Comparison
from optkit.records.layers import LayerErrors, Sensitivity
from optkit.records.machine import Machine
from optkit.records.model import DatasetRecord
from optkit.records.record import Record, Root


class OperatorRecord(Record):
    """One operator as it was executed; ``kind`` and ``kernel`` are the runtime's words, ``layers`` the file's."""

    name: str
    kind: str
    family: Family
    seconds: float
    precision: str
    kernel: str
    layers: list[str] = Field(default_factory=list)


class ProfileRecord(Record):
    """An inference taken apart: ``seconds`` as measured unwatched, and how much of it lies in no operator.

    ``scale`` is what the operators' times were multiplied by, below one where watching them slowed them down.
    """

    seconds: float
    outside_seconds: float
    inferences: int
    scale: float
    operators: list[OperatorRecord]


class LayerTimeRecord(Record):
    """A layer on both sides, or all operators of a kind where no name matched; null where a side has none.

    ``kinds`` are those of the operators that it is, in order.
    """

    layer: str
    matched: bool
    family: Family
    baseline_seconds: float | None
    candidate_seconds: float | None
    baseline_precision: str | None
    candidate_precision: str | None
    baseline_kinds: list[str] = Field(default_factory=list)
    candidate_kinds: list[str] = Field(default_factory=list)


class FamilyRecord(Record):
    """All operators that do one sort of work; ``outside operators`` is the rest of an inference."""

    family: str
    baseline_seconds: float
    candidate_seconds: float


class FindingRecord(Record):
    """A cause. ``seconds`` is what it costs the candidate in an inference, negative what it saves, null for a fact.

    ``foremost`` are its layers or operators with what each adds to it, the most first.
    """

    kind: str
    text: str
    foremost: list[str] = Field(default_factory=list)
    seconds: float | None = None
    layers: list[str] = Field(default_factory=list)
    command: str | None = None
    """What to try against it."""


class SpeedExplanation(Record):
    """Where the time went. ``families`` add up to an inference on either side; findings may overlap each other.

    Without profiles where the candidate failed; then ``comparison`` says why. ``command`` is what the conclusion says
    to try, ``leave_out`` the layers that it excludes for their speed. Where quality was lost too, the command of that
    half excludes them as well, and there is none here. ``integers_pay`` is false where they save next to nothing.
    """

    comparison: Comparison
    baseline: ProfileRecord | None = None
    candidate: ProfileRecord | None = None
    families: list[FamilyRecord] = Field(default_factory=list)
    layers: list[LayerTimeRecord] = Field(default_factory=list)
    findings: list[FindingRecord] = Field(default_factory=list)
    command: str | None = None
    leave_out: list[str] = Field(default_factory=list)
    integers_pay: bool = True
    conclusion: list[str] = Field(default_factory=list)


class QualityExplanation(Record):
    """Where the quality went; how much of it did is in the comparison.

    ``layers`` is null where the layers of both models were not compared, ``sensitivity`` where they could not be
    measured one by one; a note then says why. ``keep_in_float`` are the layers that ``command`` gives back to float for
    their quality.
    """

    layers: LayerErrors | None = None
    sensitivity: Sensitivity | None = None
    keep_in_float: list[str] = Field(default_factory=list)
    command: str | None = None
    conclusion: list[str] = Field(default_factory=list)


class Explanation(Root):
    """Why a candidate differs from a baseline. Without data, or where the candidate failed, ``quality`` is null."""

    schema_: Literal["optkit.explanation/1"] = Field("optkit.explanation/1", alias="schema")
    speed: SpeedExplanation | None = None
    quality: QualityExplanation | None = None
    data: DatasetRecord | None = None
    machine: Machine
    seconds: float
    notes: list[Note] = Field(default_factory=list)


Family = Literal[
    "convolution", "matrix product", "recurrent", "elementwise", "normalization", "pooling", "conversion", "layout",
    "other",
]  # fmt: skip
