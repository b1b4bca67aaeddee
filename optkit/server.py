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
from optkit.stage import Note, Progress, no_progress
from optkit.worker import Candidate, Worker
from optkit.workload import Workload

_QUANTILE = 0.99
_BRACKET = 1.05
"""The search ends when a rate that held and one that did not lie this close."""
_PROBES = 10
"""Into how many parts the time is divided: a probe takes one, the final measurement what is left, at least half."""
_FEWEST = 100
"""Queries of a probe at least; whether its rate really holds is for the final measurement to say."""
_BACK = 0.95
"""What the rate is multiplied with when the final, longer measurement does not hold what a probe did."""
_STRETCHES = 20
"""The final measurement's queries are taken for so many clusters: a burst makes neighbours late together."""
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
    """Each candidate under load for ``seconds``, longer where a 99 % quantile takes more queries.

    One that fails carries its reason. Raises what ``workload.of`` raises.
    """
    started, watch = time.monotonic(), conditions.Watch()
    named = comparison.named_apart(candidates)
    work = workload.of(named, dataset, batch, seed)
    ways = offline.parallel(sessions, threads)
    found = []
    for candidate in named:
        found.append(_under_load(candidate, work, demand, ways, seconds, seed, progress))
        watch.look()
    rows = [row for row, _ in found]
    cautioned = [
        *of_conditions(watch.seen(), max(count * each for count, each in ways)),
        *(n for _, own in found for n in own),
    ]
    return Comparison(
        scenario="server",
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else records.of_dataset(dataset),
        threads=threads,
        batch=work.batch,
        rounds=1,
        machine=machine.fingerprint(),
        seconds=time.monotonic() - started,
        notes=records.of_notes([*work.notes, *cautioned]),
    )


def _under_load(
    candidate: Candidate,
    work: Workload,
    demand: Demand,
    ways: Sequence[tuple[int, int]],
    seconds: float,
    seed: int,
    progress: Progress,
) -> tuple[Row, list[Note]]:
    """The candidate in the way (sessions, threads) that stands the most, and the cautions about it."""
    servings, failure = [], None
    for sessions, threads in ways:
        placed = candidate.in_parallel(sessions=sessions, threads=threads)
        serving = _Serving(placed, work, demand, threads, seconds / len(ways), np.random.default_rng(seed), progress)
        try:
            serving.carry_out()
            servings.append(serving)
        except OptkitError as error:
            failure = error
    if not servings:
        return comparison.row(candidate, Assessment(error=failure)), []
    best = max(servings, key=lambda each: (each.held or 0.0, -each.p99()))
    return best.row([trial for each in servings for trial in each.trials]), best.cautions()


@dataclass
class _Serving:
    """One candidate in one way: rates tried, and the latencies of the last, longest measurement."""

    candidate: Candidate
    work: Workload
    demand: Demand
    threads: int
    seconds: float
    draw: np.random.Generator
    progress: Progress = no_progress
    spent: float = 0.0
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
                self._measure(worker, self.demand.rate, max(1, int(self.demand.rate * self.seconds)))
            else:
                self.search(worker, capacity)
            self.memory_bytes = worker.peak_memory_bytes()

    def search(self, worker: Worker, capacity: float) -> None:
        """Halve the bracket between a rate that holds and one that does not; then measure, longer, at the former."""
        self.refused, rate = capacity, capacity / 2
        while self.spent < self.seconds / 2 and (self.held is None or self.refused / self.held > _BRACKET):
            self._probe(worker, rate)
            rate = float(np.sqrt((self.held or self.refused / 4) * self.refused))
        while self.held is not None:
            time_left = max(self.seconds / 2, self.seconds - self.spent)
            self._measure(worker, self.held, max(stats.enough_for(_QUANTILE), int(self.held * time_left)))
            if self.trials[-1].kept:
                return
            self.refused, self.held = self.held, _BACK * self.held
            self.latencies = []

    def p99(self) -> float:
        return float(np.quantile(self.latencies, _QUANTILE)) if self.latencies else float("inf")

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
            reason = f"no rate that was tried keeps a p99 of {units.seconds(self.demand.max_p99)}"
            return found.model_copy(update=known | {"status": "failed", "reason": reason})
        stretches = [part.tolist() for part in np.array_split(np.array(self.latencies), _STRETCHES) if part.size]
        return found.model_copy(update=known | {"latency": latencies.record(stretches), "throughput": self.held})

    def cautions(self) -> list[Note]:
        """Where more time would have told more."""
        needed = stats.enough_for(_QUANTILE)
        if self.latencies and len(self.latencies) < needed:
            text = (
                f"a p99 takes {needed} queries: about --seconds {units.one_digit(needed / (self.held or 1.0))} would do"
            )
        elif self.held and self.refused and self.refused / self.held > _BRACKET:
            rates = f"{units.rate(self.held)} and {units.rate(self.refused)}"
            text = f"the time was up when the highest rate lay between {rates}: give more --seconds"
        else:
            return []
        return [Note(text, self.candidate.name, level="warning", kind="spread")]

    def _capacity(self, worker: Worker) -> float:
        """Queries per second of a closed loop: no server stands more."""
        sessions = self.candidate.sessions
        once = min(worker.drain(sessions) for _ in range(_WARM_UP))
        count = sessions * max(2, int(self.seconds / _PROBES / once))
        return count / worker.drain(count)

    def _probe(self, worker: Worker, rate: float) -> None:
        """Whether the rate holds."""
        waited = self._serve(worker, rate, max(_FEWEST, int(rate * self.seconds / _PROBES)))
        if self._note(rate, float(np.quantile(waited, _QUANTILE))):
            self.held = rate
        else:
            self.refused = rate

    def _measure(self, worker: Worker, rate: float, count: int) -> None:
        self.held = rate
        self.latencies = self._serve(worker, rate, count)
        self._note(rate, self.p99())

    def _serve(self, worker: Worker, rate: float, count: int) -> list[float]:
        """The latencies of so many queries that arrive at a rate."""
        self.progress(f"{self.candidate.name}: {units.rate(rate)}", int(self.spent), None)
        arrivals = np.cumsum(self.draw.exponential(1.0 / rate, count))
        self.spent += float(arrivals[-1])
        return worker.serve(arrivals.tolist())

    def _note(self, rate: float, p99: float) -> bool:
        """Write the trial down; whether it meets the demand."""
        kept = self.demand.met_by(p99)
        ways = {"batch": self.work.batch, "sessions": self.candidate.sessions, "threads": self.threads}
        self.trials.append(Trial(**ways, rate=rate, p99=p99, kept=kept))
        return kept
