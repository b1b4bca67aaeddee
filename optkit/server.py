"""Server: queries arrive at random and wait for nobody; the highest rate at which 99 of 100 are answered in time.

Arrivals are a Poisson process, as in MLPerf's scenario of that name ("MLPerf Inference Benchmark", Reddi et al., 2020).
Latency is from the scheduled arrival to the answer, so that a stall is seen by all that arrive during it. Candidates
are loaded one after the other: two servers at once would share the machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from optkit import comparison, conditions, latencies, machine, offline, records, stats, units, workload
from optkit.cautions import of_conditions
from optkit.data import Dataset
from optkit.errors import OptkitError, UsageError
from optkit.quality import Assessment
from optkit.results import Comparison, LoadRecord, Row, Trial
from optkit.stage import Progress, no_progress
from optkit.worker import Candidate, Worker
from optkit.workload import Workload

_QUANTILE = 0.99
_BRACKET = 1.05
"""The search ends when a rate that held and one that did not lie this close."""
_PROBES = 10
"""Into how many parts the time is divided: a probe takes one, the final measurement the rest, at least half."""
_BACK = 0.95
"""What the rate is multiplied with when the final, longer measurement does not hold what a probe did."""
_STRETCHES = 20
"""The final measurement's queries are taken for so many clusters: a burst makes neighbours late together."""
_WARM_UP = 5


@dataclass(frozen=True)
class Demand:
    """A rate of queries per second, or the limit of the 99 % quantile (seconds) whose highest rate is looked for."""

    rate: float | None = None
    max_p99: float | None = None

    def __post_init__(self) -> None:
        if self.rate is None and self.max_p99 is None:
            raise UsageError(
                "the server scenario needs a rate, or a limit to find the highest rate for",
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
    seconds: float = 10.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Each candidate under load, ``seconds`` of it. Raises the baseline's error, and those of ``workload.of``."""
    started, watch = time.monotonic(), conditions.Watch()
    named = comparison.named_apart(candidates)
    work = workload.of(named, dataset, batch, seed)
    ways = offline.parallel(sessions, threads)
    rows = []
    for index, candidate in enumerate(named):
        progress("under load", index, len(named))
        rows.append(_row(candidate, work, demand, ways, seconds, seed))
        watch.look()
    return Comparison(
        scenario="server",
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else records.of_dataset(dataset),
        threads=threads,
        batch=work.batch,
        rounds=1,
        machine=machine.fingerprint(),
        seconds=time.monotonic() - started,
        notes=records.of_notes([*work.notes, *of_conditions(watch.seen(), max(count * each for count, each in ways))]),
    )


def _row(
    candidate: Candidate,
    work: Workload,
    demand: Demand,
    ways: Sequence[tuple[int, int]],
    seconds: float,
    seed: int,
) -> Row:
    """The candidate in the way (sessions, threads) that stands the most."""
    servings = []
    try:
        for sessions, threads in ways:
            share = seconds / len(ways)
            placed = candidate.in_parallel(sessions=sessions, threads=threads)
            servings.append(_Serving(placed, work, demand, threads, share, np.random.default_rng(seed)))
            servings[-1].carry_out()
    except OptkitError as error:
        return comparison.row(candidate, Assessment(error=error))
    best = max(servings, key=lambda each: (each.held or 0.0, -each.latencies_at(_QUANTILE)))
    return best.row([trial for each in servings for trial in each.trials])


@dataclass
class _Serving:
    """One candidate in one way: rates tried, and the latencies of the last, longest measurement."""

    candidate: Candidate
    work: Workload
    demand: Demand
    threads: int
    seconds: float
    draw: np.random.Generator
    trials: list[Trial] = field(default_factory=list)
    held: float | None = None
    refused: float | None = None
    latencies: list[float] = field(default_factory=list)
    memory_bytes: int | None = None

    def carry_out(self) -> None:
        """Measure at the rate asked for, or look for the highest and measure there."""
        with ExitStack() as stack:
            worker = stack.enter_context(Worker(self.candidate))
            worker.load(self.work.feeds)
            capacity = self._capacity(worker)
            if self.demand.rate is not None:
                self._measure(worker, self.demand.rate, self.seconds)
            else:
                self._search(worker, capacity)
            self.memory_bytes = worker.peak_memory_bytes()

    def latencies_at(self, level: float) -> float:
        return float(np.quantile(self.latencies, level)) if self.latencies else float("inf")

    def row(self, trials: list[Trial]) -> Row:
        """What was found, with everything that was tried."""
        load = LoadRecord(
            sessions=self.candidate.sessions,
            threads=self.threads,
            rate=self.held,
            refused_rate=self.refused,
            p99_limit=self.demand.max_p99,
            trials=trials,
        )
        found = comparison.row(self.candidate, Assessment(), None, self.work.batch)
        known = {"load": load, "memory_bytes": self.memory_bytes}
        if not self.latencies:
            limit = self.demand.max_p99 or 0.0
            return found.model_copy(
                update=known
                | {"status": "failed", "reason": f"no rate that was tried keeps a p99 of {units.seconds(limit)}"}
            )
        stretches = [part.tolist() for part in np.array_split(np.array(self.latencies), _STRETCHES)]
        return found.model_copy(update=known | {"latency": latencies.record(stretches), "throughput": self.held})

    def _capacity(self, worker: Worker) -> float:
        """Queries per second of a closed loop: no server stands more."""
        sessions = self.candidate.sessions
        once = min(worker.drain(sessions) for _ in range(_WARM_UP))
        count = sessions * max(2, int(self.seconds / _PROBES / once))
        return count / worker.drain(count)

    def _search(self, worker: Worker, capacity: float) -> None:
        """Halve the bracket between a rate that holds and one that does not; then measure, longer, at the former."""
        self.refused, rate, spent = capacity, capacity / 2, 0.0
        while spent < self.seconds / 2 and (self.held is None or self.refused / self.held > _BRACKET):
            spent += self._probe(worker, rate)
            rate = float(np.sqrt((self.held or self.refused / 4) * self.refused))
        while self.held is not None:
            self._measure(worker, self.held, max(self.seconds / 2, self.seconds - spent))
            if self.trials[-1].kept:
                return
            self.refused, self.held = self.held, _BACK * self.held
            self.latencies = []

    def _probe(self, worker: Worker, rate: float) -> float:
        """Whether the rate holds; the seconds that it took."""
        waited, seconds = self._serve(worker, rate, self.seconds / _PROBES)
        if self._note(rate, float(np.quantile(waited, _QUANTILE))):
            self.held = rate
        else:
            self.refused = rate
        return seconds

    def _measure(self, worker: Worker, rate: float, seconds: float) -> None:
        self.held = rate
        self.latencies, _ = self._serve(worker, rate, seconds)
        self._note(rate, self.latencies_at(_QUANTILE))

    def _serve(self, worker: Worker, rate: float, seconds: float) -> tuple[list[float], float]:
        """Latencies at a rate: for so long, and long enough for the quantile; and when the last query arrived."""
        count = max(stats.enough_for(_QUANTILE), int(rate * seconds))
        arrivals = np.cumsum(self.draw.exponential(1.0 / rate, count))
        return worker.serve(arrivals.tolist()), float(arrivals[-1])

    def _note(self, rate: float, p99: float) -> bool:
        """Write the trial down; whether it kept the limit, or there is none."""
        kept = self.demand.max_p99 is None or p99 <= self.demand.max_p99
        ways = {"batch": self.work.batch, "sessions": self.candidate.sessions, "threads": self.threads}
        self.trials.append(Trial(**ways, rate=rate, p99=p99, kept=kept))
        return kept
