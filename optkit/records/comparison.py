"""Records of measurements: quality, latency, load, and models side by side."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.machine import Machine
from optkit.records.model import DatasetRecord, ModelRecord
from optkit.records.record import Interval, Record, Root


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
    notes: list[Note] = Field(default_factory=list)

    @property
    def title(self) -> str:
        """``int8 on openvino``."""
        return f"{self.name} on {self.target}"


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
    notes: list[Note] = Field(default_factory=list)
