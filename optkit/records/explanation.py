"""The records of why a candidate differs from a baseline: where time and quality went, the causes, and remedies."""

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
    """One operator of the graph that the runtime executed."""

    name: str
    """The operator's name in the executed graph."""
    kind: str
    """The runtime's word for the operator: ``QLinearConv``, ``Reorder``."""
    family: Family
    """The sort of work, by which runtimes can be compared."""
    seconds: float
    """Mean seconds per inference, multiplied by the profile's ``scale``."""
    precision: str
    """The dtype that it computes in, ``int8`` also for unsigned integers; of a conversion both: ``float32 to int8``."""
    kernel: str
    """The provider or primitive that carried it out; empty where the runtime does not say."""
    layers: list[str] = Field(default_factory=list)
    """Names of the nodes of the model's file that are fused into it, the one with most arithmetic first."""


class ProfileRecord(Record):
    """An inference taken apart into its operators."""

    seconds: float
    """Seconds of an inference without profiling: the median of the comparison."""
    outside_seconds: float
    """Seconds of it that lie in no operator."""
    inferences: int
    """Number of profiled inferences, warm-up aside."""
    scale: float
    """Factor on the operators' times that makes them fit into ``seconds``: 1, or less where profiling slowed them down.
    """
    operators: list[OperatorRecord]
    """The operators, in the order of execution."""


class LayerTimeRecord(Record):
    """A layer on both sides, or all operators of a kind where no name matched."""

    layer: str
    """The layer's name in the model's file, or the operators' kind where ``matched`` is false."""
    matched: bool
    """True if the name or a tensor of the layer was found on both sides."""
    family: Family
    """The sort of work."""
    baseline_seconds: float | None
    """Seconds per inference in the baseline; null where it has no such operator."""
    candidate_seconds: float | None
    """Seconds per inference in the candidate; null where it has no such operator."""
    baseline_precision: str | None
    """The dtype that the baseline computes in; null where it has no such operator."""
    candidate_precision: str | None
    """The dtype that the candidate computes in; null where it has no such operator."""
    baseline_kinds: list[str] = Field(default_factory=list)
    """Kinds of the baseline's operators, each once, in the order of execution."""
    candidate_kinds: list[str] = Field(default_factory=list)
    """Kinds of the candidate's operators, each once, in the order of execution."""


class FamilyRecord(Record):
    """All operators that do one sort of work."""

    family: str
    """The sort of work; ``outside operators`` is the rest of an inference."""
    baseline_seconds: float
    """Seconds per inference in the baseline; 0 where it has no such operator."""
    candidate_seconds: float
    """Seconds per inference in the candidate; 0 where it has no such operator."""


class FindingRecord(Record):
    """A cause of the difference in speed."""

    kind: str
    """A fixed word for programs: ``conversions``, ``unfused-pairs``, ``weights-dequantized``, ``left-in-float``,
    ``slower-integer-layers``, ``slower-kernels``, ``faster-integer-layers``, ``lost-fusions``, ``gained-fusions``,
    ``overhead``, ``more-operators``, ``no-vnni``, ``bfloat16``, ``float16``, ``no-half-kernels``,
    ``reference-kernels`` or ``other-provider``.
    """
    text: str
    """The sentence that the user reads."""
    foremost: list[str] = Field(default_factory=list)
    """The layers or operators that contribute most, each with its part, the most first."""
    seconds: float | None = None
    """Seconds that the cause adds to an inference of the candidate, negative where it saves time; null for a fact
    without a cost of its own.
    """
    layers: list[str] = Field(default_factory=list)
    """Names of the layers concerned."""
    command: str | None = None
    """A command to try against the cause; null where none is known."""


class SpeedExplanation(Record):
    """Where the time went."""

    comparison: Comparison
    """The two models side by side; where the candidate failed, its row has the reason."""
    baseline: ProfileRecord | None = None
    """The baseline's operators; null where the candidate failed."""
    candidate: ProfileRecord | None = None
    """The candidate's operators; null where it failed."""
    families: list[FamilyRecord] = Field(default_factory=list)
    """Time by sort of work, the largest change first; on either side they add up to an inference."""
    layers: list[LayerTimeRecord] = Field(default_factory=list)
    """Every operator of both sides, in the order of the baseline and then of the candidate."""
    findings: list[FindingRecord] = Field(default_factory=list)
    """Causes, the costliest first, then those that save time, then facts; they may overlap each other."""
    command: str | None = None
    """The command that the conclusion proposes; null where there is none, or where the command of ``quality`` excludes
    the layers of ``leave_out`` as well.
    """
    leave_out: list[str] = Field(default_factory=list)
    """The layers that ``command`` excludes for their speed."""
    integers_pay: bool = True
    """False if integers save next to nothing against what they cost."""
    conclusion: list[str] = Field(default_factory=list)
    """Sentences for the user: the measured difference, its place, its causes, and a proposal."""


class QualityExplanation(Record):
    """Where the quality went; the size of the loss is in the comparison."""

    layers: LayerErrors | None = None
    """The layers of both models compared; null where they could not be, and a note says why."""
    sensitivity: Sensitivity | None = None
    """The damage that INT8 does to each layer; null where it could not be measured, and a note says why."""
    keep_in_float: list[str] = Field(default_factory=list)
    """The layers that ``command`` keeps in float for their quality."""
    command: str | None = None
    """The command that the conclusion proposes; null where nothing was lost or no remedy is known."""
    conclusion: list[str] = Field(default_factory=list)
    """Sentences for the user: the loss, its place, its causes, and a proposal."""


class Explanation(Root):
    """Why a candidate differs from a baseline."""

    schema_: Literal["optkit.explanation/1"] = Field("optkit.explanation/1", alias="schema")
    """Kind of the record and version of its format."""
    speed: SpeedExplanation | None = None
    """Where the time went."""
    quality: QualityExplanation | None = None
    """Where the quality went; null without data, or where the candidate failed."""
    data: DatasetRecord | None = None
    """The samples; null where inputs were made up."""
    machine: Machine
    """The machine that both models ran on."""
    seconds: float
    """Seconds that the explanation took."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about the measurements, and reasons for parts that are missing."""


Family = Literal[
    "convolution", "matrix product", "recurrent", "elementwise", "normalization", "pooling", "conversion", "layout",
    "other",
]  # fmt: skip
