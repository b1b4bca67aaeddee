"""Server: queries arrive at random and wait for nobody; the highest rate at which 99 of 100 are answered in time.

Arrivals are a Poisson process, as in MLPerf's scenario of that name ("MLPerf Inference Benchmark", Reddi et al., 2020).
Latency is from the scheduled arrival to the answer, so that a stall is seen by all that arrive during it. Candidates
are loaded one after the other: two servers at once would share the machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optkit import units
from optkit.data.dataset import Dataset
from optkit.errors import OptkitError, TargetError, UsageError
from optkit.measurement import comparison, offline, recording, workload
from optkit.measurement.candidate import Candidate
from optkit.measurement.quality import Assessment
from optkit.measurement.warnings import of_conditions, of_session
from optkit.measurement.worker import Worker
from optkit.measurement.workload import Workload
from optkit.metrics import latency, statistics
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison, LoadRecord, LoadTrial, Row
from optkit.system import fingerprint, noise
from optkit.system.noise import Watch

_QUANTILE = 0.99
_BRACKET = 1.05
"""The search ends when a rate that held and one that did not lie this close."""
_PROBES = 10
"""Into how many parts the time is divided: six make the bracket narrow, and a rate that fails is tried twice."""
_FEWEST = 100
"""Queries of a probe at least."""
_HALVINGS = 4
"""How often the rate is halved, although the time is up, before no rate is said to hold."""
_STRETCHES = 20
"""A measurement's queries are taken for so many clusters: a burst makes neighbours late together."""
_WARM_UP = 5


@dataclass(frozen=True)
class Demand:
    """A rate of queries per second, or the limit of the 99 % quantile (seconds) whose highest rate is looked for.

    Raises UsageError unless it is one of both.
    """

    rate: float | None = None
    max_p99: float | None = None

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.max_p99 is None):
            raise UsageError(
                "the server scenario needs a rate to measure at, or a limit to find the highest rate for",
                hint="--rate 100, or --max-p99 20ms",
            )

    def met_by(self, p99: float) -> bool:
        """Whether a p99 is within the limit, if there is one."""
        return self.max_p99 is None or p99 <= self.max_p99


def one_by_one(
    candidates: Sequence[Candidate],
    demand: Demand,
    *,
    dataset: Dataset | None,
    batch: int = 1,
    sessions: int | None = None,
    threads: int | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Each candidate under load for about ``seconds``; one that fails carries its reason.

    Raises what ``workload.of`` raises.
    """
    started, watch = time.monotonic(), noise.Watch()
    named = comparison.named_apart(candidates)
    work = workload.of(named, dataset, batch, seed)
    ways = offline.parallel(sessions, threads)
    rows: list[Row] = []
    cautioned: list[Note] = []
    for candidate in named:
        servings = [
            _Serving(candidate, work, demand, count, each, seconds / len(ways), seed, watch, progress)
            for count, each in ways
        ]
        row, notes = _under_load(candidate, servings)
        rows.append(row)
        cautioned += notes
    machines = of_conditions(watch.seen(), max(count * each for count, each in ways))
    return Comparison(
        scenario="server",
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else recording.of_dataset(dataset),
        threads=threads,
        batch=work.batch,
        rounds=1,
        machine=fingerprint.fingerprint(),
        seconds=time.monotonic() - started,
        notes=[*work.notes, *machines, *cautioned],
    )


def _under_load(candidate: Candidate, servings: Sequence[_Serving]) -> tuple[Row, list[Note]]:
    """The candidate in the way (sessions, threads) that stands the most, and the cautions about it."""
    for serving in servings:
        serving.carry_out()
    trials = [trial for each in servings for trial in each.trials]
    best = max(servings, key=lambda each: (each.held or 0.0, -each.p99()))
    if best.error is not None:
        return comparison.row(candidate, Assessment(error=best.error)), []
    return best.row(trials), best.cautions(len(servings))


@dataclass
class _Serving:
    """One candidate in one way: rates tried, and the latencies at the one that is reported."""

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
        """Measure at the rate asked for, or look for the highest and measure there; an error is this way's result."""
        try:
            with Worker(self.candidate.in_parallel(sessions=self.sessions, threads=self.threads)) as worker:
                worker.load(self.work.feeds)
                self.facts = worker.facts
                self.serve(worker)
                self.memory_bytes = worker.peak_memory_bytes()
        except OptkitError as error:
            self.error = error
            self.held, self.latencies = None, []
            self.trials.append(self._trial(reason=error.message))

    def serve(self, worker: Worker) -> None:
        """What is demanded. Raises TargetError where the model cannot stand it, or the time does not do to know."""
        once, capacity = self._capacity(worker)
        if self.demand.rate is not None:
            self._measure_at(worker, self.demand.rate, capacity)
        else:
            self._search(worker, once, capacity)

    def p99(self) -> float:
        return float(np.quantile(self.latencies, _QUANTILE)) if self.latencies else float("inf")

    def row(self, trials: list[LoadTrial]) -> Row:
        """What was found, with everything that was tried."""
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
            "latency": latency.record(stretches),
            "throughput": (self.held or 0.0) * self.work.batch,
            "memory_bytes": self.memory_bytes,
            "facts": self.facts,
        }
        return comparison.row(self.candidate, Assessment(), None, self.work.batch).model_copy(update=known)

    def cautions(self, ways: int) -> list[Note]:
        """Those of the session; and where more time, which is divided among ``ways``, would have told more."""
        found = list(of_session(self.candidate, self.facts, self.sessions * self.threads))
        needed = statistics.enough_for(_QUANTILE)
        if len(self.latencies) < needed:
            parts = ways * (1 if self.demand.rate else _PROBES)
            seconds = units.one_digit(parts * needed / (self.held or 1.0))
            found.append(self._caution(f"a p99 takes {needed} queries: about --seconds {seconds} would do"))
        if self.held and self.refused and self.refused > 1.001 * _BRACKET * self.held:
            rates = f"{units.rate(self.held)} and {units.rate(self.refused)}"
            found.append(self._caution(f"the time was up with the highest rate between {rates}: give more --seconds"))
        return found

    def _caution(self, text: str) -> Note:
        return Note(text, self.candidate.name, level="warning", kind="spread")

    def _capacity(self, worker: Worker) -> tuple[float, float]:
        """Seconds of an inference without load, and queries per second of a closed loop: no server stands more."""
        once = min(worker.drain(self.sessions) for _ in range(_WARM_UP))
        count = self.sessions * max(2, int(self.seconds / _PROBES / once))
        return once, count / worker.drain(count)

    def _measure_at(self, worker: Worker, rate: float, capacity: float) -> None:
        if rate > capacity:
            raise TargetError(f"{units.rate(rate)} only grows the queue: it does {units.rate(capacity)} at the most")
        self.held, self.latencies = rate, self._serve(worker, rate, max(1, int(rate * self.seconds)))
        self._note(rate, self.latencies)

    def _search(self, worker: Worker, once: float, capacity: float) -> None:
        """Narrow the bracket between a rate that holds and one that does not, all with one pattern of arrivals.

        So no probe holds by a luckier pattern where another fails; the pattern's own luck remains, whatever the search.
        Only a rate that fails twice is refused: one disturbance from outside would else cap all that is tried later.
        """
        limit, shortest = self.demand.max_p99 or 0.0, 2 * _FEWEST / capacity
        if once > limit:
            raise TargetError(f"an inference alone takes {units.seconds(once)}, longer than {units.seconds(limit)}")
        if shortest > self.seconds:
            raise TargetError(
                f"too slow for the time: {_FEWEST} queries take {units.seconds(shortest)}; about --seconds "
                f"{units.one_digit(_PROBES * shortest)} would do"
            )
        self.refused, rate = capacity, capacity / 2
        while (self.held is None or self.refused > _BRACKET * self.held) and not self._time_is_up():
            count = max(_FEWEST, int(rate * self.seconds / _PROBES))
            kept = self._note(rate, waited := self._serve(worker, rate, count))
            if not kept and not self._time_is_up():
                kept = self._note(rate, waited := self._serve(worker, rate, count))
            if kept:
                self.held, self.latencies = rate, waited
            else:
                self.refused = rate
            rate = float(np.sqrt((self.held or self.refused / 4) * self.refused))
        if self.held is None:
            raise TargetError(f"no rate that was tried keeps a p99 of {units.seconds(limit)}")

    def _time_is_up(self) -> bool:
        """Longer, for a few halvings, where nothing held yet."""
        return self.spent >= self.seconds and (self.held is not None or len(self.trials) >= _HALVINGS)

    def _serve(self, worker: Worker, rate: float, count: int) -> list[float]:
        """The latencies of so many queries that arrive at a rate: the same pattern at every rate, for every model."""
        self.progress(f"{self.candidate.name}: {units.rate(rate)}", int(self.spent), None)
        arrivals = self.arrivals(rate, count)
        waited = worker.serve(arrivals)
        self.spent += arrivals[-1]
        self.watch.look(gpu="gpu" in self.facts)
        return waited

    def arrivals(self, rate: float, count: int) -> list[float]:
        """When so many queries arrive, in seconds from the first one's wait on."""
        gaps = np.random.default_rng(self.seed).exponential(1.0 / rate, count)
        times: list[float] = np.cumsum(gaps).tolist()
        return times

    def _note(self, rate: float, waited: Sequence[float]) -> bool:
        """Write the trial down; whether it meets the demand."""
        p99 = float(np.quantile(waited, _QUANTILE))
        kept = self.demand.met_by(p99)
        self.trials.append(self._trial(rate=rate, p99=p99, kept=kept))
        return kept

    def _trial(self, **found: Any) -> LoadTrial:
        return LoadTrial(batch=self.work.batch, sessions=self.sessions, threads=self.threads, **found)
