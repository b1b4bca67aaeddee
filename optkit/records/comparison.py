"""Records of measurements: quality, latency, load, and models side by side."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from optkit.notes import Note
from optkit.options import measuring
from optkit.records.machine import Machine
from optkit.records.model import DatasetRecord, ModelRecord
from optkit.records.record import Interval, Record, Root


class QualityRecord(Record):
    """The value of a metric, and the loss against the baseline on the same samples."""

    metric: str
    """The metric, with the output that it looks at where one was named: ``accuracy``, ``cosine:logits``."""
    value: Interval
    """The metric's value in its own units, with the interval over the samples."""
    count: int
    """Number of samples."""
    higher_is_better: bool
    """True for accuracies, correlations and similarities, false for errors."""
    needs_labels: bool
    """True if the outputs were compared with labels, false if with the baseline's outputs (fidelity)."""
    loss: Interval | None = None
    """Loss against the baseline in the metric's units, positive is worse; null for the baseline itself."""
    test: Literal["mcnemar", "bootstrap", "wilson"] | None = None
    """The test that tells the loss from chance: McNemar's exact test where each sample is right or wrong, else the
    loss's own interval: bootstrap, or Wilson's for the share of decisions that agree; null without a loss.
    """
    p_value: float | None = None
    """The two-sided p-value of McNemar's test, from 0 to 1; null for the other tests."""
    detectable: float | None = None
    """The smallest loss that these samples could have shown, in the metric's units; null where they show none."""


class LatencyRecord(Record):
    """The distribution of seconds per inference.

    Intervals are over the launches, in the server scenario over stretches of the run.
    """

    count: int
    """Number of timed inferences."""
    mean: float
    """Mean seconds of an inference."""
    median: float
    """Median seconds of an inference."""
    fastest: float | None = None
    """The fastest inference of each feed, averaged over the feeds, in seconds: the figure that depends least on other
    work of the machine. Null under the load of the server scenario.
    """
    p90: float | None = None
    """The 90 % quantile in seconds; null with fewer than 50 inferences."""
    p95: float | None = None
    """The 95 % quantile in seconds; null with fewer than 100 inferences."""
    p99: float | None = None
    """The 99 % quantile in seconds; null with fewer than 500 inferences."""
    median_interval: Interval | None = None
    """The median in seconds with its bootstrap interval; null below five launches or 10 inferences."""
    p90_interval: Interval | None = None
    """The 90 % quantile in seconds with its bootstrap interval; null below five launches or 50 inferences."""
    p95_interval: Interval | None = None
    """The 95 % quantile in seconds with its bootstrap interval; null below five launches or 100 inferences."""
    p99_interval: Interval | None = None
    """The 99 % quantile in seconds with its bootstrap interval; null below five launches or 500 inferences."""
    mean_interval: Interval | None = None
    """The mean in seconds with Student's interval; null for a single launch."""
    histogram_edges: list[float] = Field(default_factory=list)
    """Edges of equal bins in seconds, one more than there are bins, from the fastest inference to the 99 % quantile."""
    histogram_counts: list[int] = Field(default_factory=list)
    """Number of inferences in each bin; the last bin also holds those above the 99 % quantile."""


Scenario = measuring.Scenario
"""A way to put load on, named as MLPerf names it."""


class LoadTrial(Record):
    """One combination of batch, sessions and threads that was tried under load."""

    batch: int
    """Samples per inference."""
    sessions: int
    """Number of sessions that run in parallel."""
    threads: int
    """Threads of each session."""
    rate: float | None = None
    """Queries per second that arrived; null in the offline scenario, where the next begins as soon as one ends, and
    where the trial failed.
    """
    throughput: float | None = None
    """Samples per second; null in the server scenario and where the trial failed."""
    p99: float | None = None
    """The 99 % quantile of the latency in seconds, counted from the arrival; null in the offline scenario and where the
    trial failed.
    """
    kept: bool = False
    """True if the trial was the best (offline), or met the limit of the latency, if there was one (server)."""
    reason: str | None = None
    """The error that the trial failed with; null where it did not fail."""


class LoadRecord(Record):
    """The load under which a row was measured."""

    sessions: int
    """Number of sessions that run in parallel."""
    threads: int
    """Threads of each session."""
    rate: float | None = None
    """Queries per second: the highest rate that kept ``p99_limit``, or the rate that was asked for; null in the offline
    scenario.
    """
    refused_rate: float | None = None
    """Queries per second: the lowest rate that did not keep ``p99_limit``, or the most that the model does at all;
    null where no limit was given.
    """
    p99_limit: float | None = None
    """The limit of the 99 % quantile in seconds; null where none was given."""
    trials: list[LoadTrial] = Field(default_factory=list)
    """Everything that was tried, in order."""


class Row(Record):
    """One model on one target: its figures, or the reason why it failed."""

    name: str
    """The model's name in tables; names differ within a comparison."""
    target: str
    """The runtime that executed it."""
    model: ModelRecord | None = None
    """The model; null where it could not be made."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Runtime options of the session, spelled as the runtime spells them."""
    status: Literal["ok", "failed"] = "ok"
    """``failed`` where the model could not be made or did not run; its figures are null then."""
    reason: str | None = None
    """The error of a failed row; null for others."""
    baseline: bool = False
    """True for the row that all others are compared with."""
    batch: int | None = None
    """Samples per inference; null where the model was never run."""
    latency: LatencyRecord | None = None
    """Seconds per inference; null where single inferences were not timed."""
    throughput: float | None = None
    """Samples per second; null where it was not measured."""
    throughput_interval: Interval | None = None
    """Samples per second with the interval over the launches; null where it was not measured, and under the server
    scenario's load, which sets the rate.
    """
    load: LoadRecord | None = None
    """The load of the offline and the server scenario; null in the single-stream scenario."""
    speedup: Interval | None = None
    """The baseline's time per sample over this row's, above 1 is faster: the geometric mean over the rounds, paired
    round by round, with its interval over the launches. Null for the baseline itself and where no speed was compared.
    """
    speed_verdict: Literal["faster", "slower", "no difference", "inconclusive"] | None = None
    """The meaning of the interval of ``speedup``: ``no difference`` within 3 % of 1, ``inconclusive`` where it reaches
    over an edge of that margin; null without a speed-up.
    """
    ratios: list[list[float]] = Field(default_factory=list)
    """The speed-up of each round of each launch; empty for the baseline."""
    memory_bytes: int | None = None
    """Peak resident memory of the session's process in bytes (of a GPU session, of the device where the runtime
    accounts for it); null where it was not measured.
    """
    quality: QualityRecord | None = None
    """The metric's value and loss; null without data."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """The runtime's report of its session: providers or device, precision, threads; the keys are the target's."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about this row alone."""

    @property
    def title(self) -> str:
        """The row's name with its target: ``int8 on openvino``."""
        return f"{self.name} on {self.target}"


class Evaluation(Root):
    """The quality of one model."""

    schema_: Literal["optkit.evaluation/1"] = Field("optkit.evaluation/1", alias="schema")
    """Kind of the record and version of its format."""
    row: Row
    """The evaluated model."""
    reference: Row | None = None
    """The model that it was compared with; null where none was given."""
    data: DatasetRecord
    """The samples."""
    machine: Machine
    """The machine that the evaluation ran on."""
    seconds: float
    """Seconds that the evaluation took."""


class Comparison(Root):
    """Models side by side in one run; ``benchmark`` and ``compare`` return it."""

    schema_: Literal["optkit.comparison/1"] = Field("optkit.comparison/1", alias="schema")
    """Kind of the record and version of its format."""
    scenario: Scenario = "single-stream"
    """The pattern of load."""
    rows: list[Row]
    """A row for each model on each target; the first is the baseline."""
    data: DatasetRecord | None = None
    """The samples of quality and speed; null where inputs were made up."""
    threads: int | None = None
    """Threads of a session as asked for; null where each target chose."""
    batch: int
    """Samples per inference, of the baseline where rows differ."""
    launches: int = 1
    """Number of times that a new process was started for each model; 0 where no speed was measured."""
    rounds: int
    """Number of rounds in all launches together, in which each model takes a turn; 0 where no speed was measured, 1 in
    the server scenario.
    """
    precision: float | None = None
    """Half the width that was wanted of each speed-up's interval, as a share of its value; null in the server scenario.
    """
    max_drop: float | None = None
    """The largest loss allowed, in the metric's units; null where none was given."""
    machine: Machine
    """The machine that the models ran on."""
    seconds: float
    """Seconds that the comparison took."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about the measurement as a whole."""
