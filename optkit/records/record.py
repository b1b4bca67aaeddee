"""The versioned records of everything measured or decided: the product of a run, read by reports and by the gate.

Seconds and bytes; ratios are baseline over candidate for time, so above one is faster; ``null`` is unknown.
Each root record has a ``schema``. History: ``optkit.*/1``, the first.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A frozen, strict record."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, populate_by_name=True)


class Root(Record):
    """A record that stands alone in a file."""

    def to_json(self) -> str:
        """The record as indented JSON text; it reads back equal."""
        return self.model_dump_json(indent=2)


class Interval(Record):
    """An estimate with its interval; ``confidence`` is the interval's nominal coverage."""

    value: float
    low: float
    high: float
    confidence: float = 0.95


class NoteRecord(Record):
    """One line for the user: what was chosen, assumed or left alone."""

    text: str
    where: str | None = None
    level: Literal["info", "warning"] = "info"
    kind: str | None = None
    """A word for programs: ``noisy-neighbour``; the cautions of docs/measuring.md have one."""


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


class QualityRecord(Record):
    """A metric over ``count`` samples. ``loss`` is against the baseline in the metric's units, positive is worse.

    ``test`` says how the loss was told from chance: by McNemar's exact test, with its ``p_value``, where each sample is
    right or wrong, else by the interval of the loss alone: bootstrap, or Wilson's of the share that agrees.
    ``detectable`` is the smallest loss that these samples could have shown; null where they could have shown none.
    """

    metric: str
    value: Interval
    count: int
    higher_is_better: bool
    needs_labels: bool
    loss: Interval | None = None
    test: Literal["mcnemar", "bootstrap", "wilson"] | None = None
    p_value: float | None = None
    detectable: float | None = None


class LatencyRecord(Record):
    """Seconds per inference over ``count`` inferences; a percentile is null with too few samples to support it."""

    count: int
    mean: float
    median: float
    fastest: float | None = None
    """The fastest inference of each feed, their mean: what least depends on what else the machine does."""
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    median_interval: Interval | None = None
    p90_interval: Interval | None = None
    p95_interval: Interval | None = None
    p99_interval: Interval | None = None
    mean_interval: Interval | None = None
    histogram_edges: list[float] = Field(default_factory=list)
    histogram_counts: list[int] = Field(default_factory=list)


Scenario = Literal["single-stream", "multi-stream", "offline", "server"]
"""How load is put on, named as MLPerf names it."""


class Trial(Record):
    """One way of putting load on that was tried: ``rate`` queries per second arriving, or as fast as it goes.

    ``kept`` says that it was the best, or that it held the limit.
    """

    batch: int
    sessions: int
    threads: int
    rate: float | None = None
    throughput: float | None = None
    p99: float | None = None
    kept: bool = False
    reason: str | None = None


class LoadRecord(Record):
    """The load that the figures are of: parallel sessions with so many threads each, queries arriving at a rate.

    ``rate`` is the highest that kept ``p99_limit`` (``refused_rate`` did not), or the one that was asked for.
    """

    sessions: int
    threads: int
    rate: float | None = None
    refused_rate: float | None = None
    p99_limit: float | None = None
    trials: list[Trial] = Field(default_factory=list)


class Row(Record):
    """One model on one target: what it is, how it did, or why it failed.

    ``speedup`` is the baseline's time per sample over this one's, paired round by round, its interval over the
    launches; null for the baseline itself. ``ratios`` are those of all rounds, by launch.
    """

    name: str
    target: str
    model: ModelRecord | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    baseline: bool = False
    batch: int | None = None
    latency: LatencyRecord | None = None
    throughput: float | None = None
    throughput_interval: Interval | None = None
    load: LoadRecord | None = None
    speedup: Interval | None = None
    speed_verdict: Literal["faster", "slower", "no difference", "inconclusive"] | None = None
    ratios: list[list[float]] = Field(default_factory=list)
    memory_bytes: int | None = None
    quality: QualityRecord | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    notes: list[NoteRecord] = Field(default_factory=list)

    @property
    def title(self) -> str:
        """``int8 on openvino``."""
        return f"{self.name} on {self.target}"


class LibraryRecord(Record):
    """An installed or missing library; ``error`` says why it does not import."""

    name: str
    version: str | None
    extra: str | None = None
    error: str | None = None


class GpuState(Record):
    """What of a GPU changes from moment to moment.

    ``utilization`` is the share of about the last second in which it worked, for whomever. ``clock_reasons`` are
    NVIDIA's names of why the clock is no higher.
    """

    sm_megahertz: float | None = None
    memory_megahertz: float | None = None
    power_watts: float | None = None
    performance_state: str | None = None
    celsius: float | None = None
    utilization: float | None = None
    clock_reasons: list[str] | None = None


class GpuRecord(Record):
    """A GPU; ``mig_mode`` says whether it is divided among several."""

    name: str
    memory_bytes: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    sm_megahertz_max: float | None = None
    memory_megahertz_max: float | None = None
    power_limit_watts: float | None = None
    persistence_mode: bool | None = None
    mig_mode: bool | None = None
    state: GpuState | None = None


class Machine(Record):
    """The fingerprint: what a measurement depends on besides the model."""

    system: str
    python: str
    cpu: str
    isa: list[str]
    cores: int
    cores_allowed: float
    """Cores that affinity and the cgroup quota leave to this process."""
    memory_bytes: int
    memory_allowed_bytes: int
    gpus: list[GpuRecord] = Field(default_factory=list)
    libraries: list[LibraryRecord] = Field(default_factory=list)
    noise: list[str] = Field(default_factory=list)
    """What makes measurements on this machine noisy, a line each."""


class ProviderRecord(Record):
    """An execution provider of the installed ONNX Runtime; ``error`` says why no session opens on it here."""

    name: str
    error: str | None = None
    hint: str | None = None


class Doctor(Root):
    """What this machine has."""

    schema_: Literal["optkit.doctor/1"] = Field("optkit.doctor/1", alias="schema")
    machine: Machine
    targets: list[LibraryRecord]
    providers: list[ProviderRecord] = Field(default_factory=list)
    notes: list[NoteRecord] = Field(default_factory=list)


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
    notes: list[NoteRecord] = Field(default_factory=list)


class Evaluation(Root):
    """The quality of one model."""

    schema_: Literal["optkit.evaluation/1"] = Field("optkit.evaluation/1", alias="schema")
    row: Row
    reference: Row | None = None
    data: DatasetRecord
    machine: Machine
    seconds: float


class Comparison(Root):
    """Models side by side in one run; the first row is the baseline. Also what ``benchmark`` answers."""

    schema_: Literal["optkit.comparison/1"] = Field("optkit.comparison/1", alias="schema")
    scenario: Scenario = "single-stream"
    rows: list[Row]
    data: DatasetRecord | None = None
    threads: int | None = None
    batch: int
    launches: int = 1
    rounds: int
    precision: float | None = None
    max_drop: float | None = None
    machine: Machine
    seconds: float
    notes: list[NoteRecord] = Field(default_factory=list)
