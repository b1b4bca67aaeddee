"""The server scenario: open-loop load at a given rate, or at the highest rate that keeps a limit of the p99.

Arrivals are a Poisson process, as in MLPerf's scenario of that name ("MLPerf Inference Benchmark", Reddi et al., 2020).
Latency is from the scheduled arrival to the answer, so that a stall delays all queries that arrive during it.
Candidates are measured one after the other: two servers at once would share the machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from optkit import units
from optkit.data.dataset import Dataset
from optkit.errors import OptkitError, TargetError, UsageError
from optkit.measurement import comparison, offline, recording, workload
from optkit.measurement.candidate import Candidate
from optkit.measurement.quality import Assessment
from optkit.measurement.rate_search import BRACKET, PROBES, QUANTILE, RateSearch
from optkit.measurement.warnings import machine_warnings, session_warnings
from optkit.measurement.worker import Worker
from optkit.measurement.workload import Workload
from optkit.metrics import statistics
from optkit.metrics.latency import latency_record
from optkit.metrics.statistics import SECONDS
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison, LoadRecord, LoadTrial, Row
from optkit.system import noise
from optkit.system.noise import Watch
from optkit.targets import libraries

_STRETCHES = 20
"""Clusters that the latencies of a measurement are divided into: a burst makes neighbours late together."""
_WARM_UP = 5


@dataclass(frozen=True)
class Demand:
    """The load to measure at. Raises UsageError unless exactly one of both is given."""

    rate: float | None = None
    """Queries per second."""
    max_p99: float | None = None
    """Limit of the 99 % quantile in seconds; the highest rate that keeps it is searched."""

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.max_p99 is None):
            raise UsageError(
                "the server scenario needs a rate to measure at, or a limit to find the highest rate for",
                hint="--rate 100, or --max-p99 20ms",
            )


def one_by_one(
    candidates: Sequence[Candidate],
    demand: Demand,
    *,
    dataset: Dataset | None,
    batch: int = 1,
    sessions: int | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Measure each candidate under load for about ``seconds``; the row of one that fails holds the reason.

    Raises the errors of ``workload.make_workload``.
    """
    started, watch = time.monotonic(), noise.Watch()
    named = comparison.with_distinct_names(candidates)
    work = workload.make_workload(named, dataset, batch, seed)
    configurations = offline.parallel(sessions, threads)
    rows: list[Row] = []
    warnings: list[Note] = []
    for candidate in named:
        tests = [
            _LoadTest(candidate, work, demand, count, each, seconds / len(configurations), seed, watch, progress)
            for count, each in configurations
        ]
        row, notes = _under_load(candidate, tests)
        rows.append(row)
        warnings += notes
    of_machine = machine_warnings(watch.seen(), max(count * each for count, each in configurations))
    return Comparison(
        scenario="server",
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else recording.of_dataset(dataset),
        threads=threads,
        batch=work.batch,
        rounds=1,
        machine=libraries.fingerprint(),
        seconds=time.monotonic() - started,
        notes=[*work.notes, *of_machine, *warnings],
    )


def _under_load(candidate: Candidate, tests: Sequence[_LoadTest]) -> tuple[Row, list[Note]]:
    """Run the tests of a candidate; return the row of the best configuration, and the warnings about it."""
    for test in tests:
        test.carry_out()
    trials = [trial for each in tests for trial in each.trials]
    best = max(tests, key=lambda each: (each.held or 0.0, -each.p99()))
    if best.error is not None:
        return comparison.row(candidate, Assessment(error=best.error)), []
    return best.row(trials), best.warnings(len(tests))


@dataclass
class _LoadTest:
    """The test of one candidate in one configuration (sessions, threads): its trials, latencies at its best rate."""

    candidate: Candidate
    work: Workload
    demand: Demand
    sessions: int
    threads: int
    seconds: float
    seed: int
    watch: Watch
    progress: Progress = no_progress
    spent: float = 0.0
    trials: list[LoadTrial] = field(default_factory=list)
    held: float | None = None
    refused: float | None = None
    latencies: list[float] = field(default_factory=list)
    memory_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: OptkitError | None = None

    def carry_out(self) -> None:
        """Measure at the rate asked for, or search the highest; an error is kept as the result."""
        try:
            with Worker(self.candidate.in_parallel(sessions=self.sessions, threads=self.threads)) as worker:
                worker.load(self.work.feeds)
                self.facts = worker.facts
                self._measure(worker)
                self.memory_bytes = worker.peak_memory_bytes()
        except OptkitError as error:
            self.error = error
            self.held, self.latencies = None, []
            self.trials.append(self._trial(reason=error.message))

    def p99(self) -> float:
        return float(np.quantile(self.latencies, QUANTILE)) if self.latencies else float("inf")

    def row(self, trials: list[LoadTrial]) -> Row:
        """Make the candidate's row, with the ``trials`` of all configurations."""
        load = LoadRecord(
            sessions=self.sessions,
            threads=self.threads,
            rate=self.held,
            refused_rate=self.refused,
            p99_limit=self.demand.max_p99,
            trials=trials,
        )
        stretches = [part.tolist() for part in np.array_split(np.array(self.latencies), _STRETCHES) if part.size]
        known = {
            "load": load,
            "latency": latency_record(stretches),
            "throughput": (self.held or 0.0) * self.work.batch,
            "memory_bytes": self.memory_bytes,
            "facts": self.facts,
        }
        return comparison.row(self.candidate, Assessment(), None, self.work.batch).model_copy(update=known)

    def warnings(self, configurations: int) -> list[Note]:
        """Warn of the session's settings, and of too little time, which was divided among the configurations."""
        found = list(session_warnings(self.candidate, self.facts, self.sessions * self.threads))
        needed = statistics.enough_for(QUANTILE)
        if len(self.latencies) < needed:
            parts = configurations * (1 if self.demand.rate else PROBES)
            seconds = units.one_digit(parts * needed / (self.held or 1.0))
            found.append(self._warning(f"a p99 needs {needed} queries: about --seconds {seconds} would be enough"))
        if self.held and self.refused and self.refused > 1.001 * BRACKET * self.held:
            rates = f"{units.rate(self.held)} and {units.rate(self.refused)}"
            found.append(self._warning(f"the time was up with the highest rate between {rates}: give more --seconds"))
        return found

    def _warning(self, text: str) -> Note:
        return Note(text, self.candidate.name, level="warning", kind="spread")

    def _measure(self, worker: Worker) -> None:
        """Measure as demanded. Raises TargetError if the model cannot bear it, or the time is too short to know."""
        single, capacity = self._capacity(worker)
        if self.demand.max_p99 is not None:
            self._search(worker, self.demand.max_p99, single, capacity)
        elif self.demand.rate is not None:
            self._measure_at(worker, self.demand.rate, capacity)

    def _capacity(self, worker: Worker) -> tuple[float, float]:
        """Measure the seconds of an inference without load, and the queries per second of a closed loop, which no
        server exceeds.
        """
        single = min(worker.drain(self.sessions) for _ in range(_WARM_UP))
        count = self.sessions * max(2, int(self.seconds / PROBES / single))
        return single, count / worker.drain(count)

    def _measure_at(self, worker: Worker, rate: float, capacity: float) -> None:
        if rate > capacity:
            raise TargetError(
                f"{units.rate(rate)} is more than the model's capacity of {units.rate(capacity)}: the queue only grows"
            )
        arrivals = self._arrivals(rate, max(1, int(rate * self.seconds)))
        self.held, self.latencies = rate, self._serve(worker, rate, arrivals)
        self.trials.append(self._trial(rate=rate, p99=self.p99(), kept=True))

    def _search(self, worker: Worker, limit: float, single: float, capacity: float) -> None:
        search = RateSearch(limit, self.seconds, self._arrivals, partial(self._serve, worker))
        try:
            search.run(single, capacity)
        finally:
            self.trials += [self._trial(rate=each.rate, p99=each.p99, kept=each.kept) for each in search.probes]
        self.held, self.refused, self.latencies = search.held, search.refused, search.latencies

    def _serve(self, worker: Worker, rate: float, arrivals: list[float]) -> list[float]:
        """Serve the queries and return their latencies in seconds."""
        self.progress(f"{self.candidate.name}: {units.rate(rate)}", int(self.spent), None)
        found = worker.serve(arrivals)
        self.spent += arrivals[-1]
        self.watch.look(gpu="gpu" in self.facts)
        return found

    def _arrivals(self, rate: float, count: int) -> list[float]:
        """Draw ``count`` arrival times of a Poisson process; the pattern is the same at every rate, for every model."""
        gaps = np.random.default_rng(self.seed).exponential(1.0 / rate, count)
        times: list[float] = np.cumsum(gaps).tolist()
        return times

    def _trial(self, **found: Any) -> LoadTrial:
        return LoadTrial(batch=self.work.batch, sessions=self.sessions, threads=self.threads, **found)
