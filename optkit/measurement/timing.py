"""Timing of candidates, each in processes of its own, in short interleaved rounds that are compared pairwise.

A launch is one process of every candidate, all alive together. In each of its rounds every candidate has a turn, in
random order; the others sleep meanwhile. Two processes of the same model differ in speed for as long as they live, by
the placement of their memory and threads, so a comparison takes several launches, and its interval is over launches
("Rigorous Benchmarking in Reasonable Time", Kalibera and Jones, 2013). Time is read from the sessions' own clocks.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from optkit.errors import OptkitError
from optkit.formats.tensors import Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.metrics import statistics
from optkit.metrics.latency import latency_record, throughput_interval
from optkit.metrics.statistics import SECONDS
from optkit.progress import Progress, no_progress
from optkit.records.comparison import LatencyRecord
from optkit.records.record import Interval
from optkit.system import cgroup
from optkit.system.noise import Conditions, Watch

_LAUNCH_SECONDS = 0.2
"""Least time that a candidate is measured in a launch."""
_LAUNCHES = 8
"""Launches after which measuring may stop early. With fewer, stopping at the first narrow interval would favour lucky
ones, and intervals would hold the true value less often than their confidence says."""
_FEWEST_LAUNCHES = 5
"""Launches made in a second or more, even if a model opens slowly: with two, Student's interval is seven times as
wide, and percentiles have none. In less time, two launches are made."""
_WARM_UP_SHARE = 0.25
"""Share of a launch that warming up may take."""
_SETTLED = 0.98
"""Warming up ends when a chunk's median is no longer below this share of the least median before it."""
_FEWEST_CHUNKS = 3
_FEWEST_FEEDINGS = 20
"""Least number of passes over all feeds; slow models are timed on fewer feeds."""


def _single_stream(worker: Worker, count: int, core: int | None) -> tuple[list[float], float]:
    times = worker.time(count, core=core)
    return times, sum(times)


def _saturated(worker: Worker, count: int, core: int | None) -> tuple[list[float], float]:
    sessions = worker.candidate.sessions
    total = sessions * math.ceil(count / sessions)
    elapsed = worker.drain(total)
    return [elapsed / total], elapsed


@dataclass(frozen=True)
class Mode:
    """A way to time a candidate."""

    turn: Callable[[Worker, int, int | None], tuple[list[float], float]]
    """Runs a number of inferences in a worker, starting on a core; returns the seconds of each, or their mean alone,
    and the seconds of the whole turn."""
    round_seconds: float
    """Least duration of a turn: long against one interruption by the system, short against drift of the clock and,
    with parallel sessions, long against the time at the end in which only the last of them runs."""
    samples: int
    """Least number of times to measure."""


LATENCY = Mode(_single_stream, 0.04, statistics.enough_for(0.99))
"""One inference at a time, enough of them for a 99 % quantile."""
THROUGHPUT = Mode(_saturated, 0.3, 1)
"""All of the candidate's sessions busy."""


@dataclass(frozen=True)
class Task:
    """A candidate with the feeds that it is timed on, of ``batch`` samples each."""

    candidate: Candidate
    feeds: Sequence[Arrays]
    batch: int = 1


@dataclass(frozen=True)
class Timing:
    """The times of one candidate, or the reason of its failure."""

    candidate: Candidate
    reason: str | None = None
    """The error's message if it failed; all else is then unset."""
    latency: LatencyRecord | None = None
    throughput: Interval | None = None
    """Samples per second."""
    speedup: Interval | None = None
    """The baseline's time per sample over this one's; ``None`` for the baseline itself."""
    verdict: statistics.SpeedVerdict | None = None
    ratios: list[list[float]] = field(default_factory=list)
    """The speed-up in each round, by launch."""
    memory_bytes: int | None = None
    """Peak memory of its process."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The session's own description: providers, precision, threads and the like."""


@dataclass(frozen=True)
class Measurement:
    """The timings of all candidates."""

    timings: list[Timing]
    launches: int
    rounds: int
    """Rounds in all launches together."""
    conditions: Conditions
    """Noise on the machine during the measurement."""


def measure(
    tasks: Sequence[Task],
    *,
    mode: Mode = LATENCY,
    seconds: float = SECONDS,
    precision: float = statistics.PRECISION,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Measurement:
    """Time the candidates, the first of which is the baseline; the timing of one that fails holds the reason.

    Launches go on until every speed-up's interval is within ``precision`` of its value and the samples support the 99 %
    quantile, or until one candidate took ``seconds``, its opening in later launches included. Raises the baseline's
    error, since nothing can be compared without it.
    """
    watch = Watch()
    draw = random.Random(seed)  # noqa: S311  orders and cores, no secrets
    run = _InterleavedRun([_TimedLane(task, mode) for task in tasks], mode, seconds, draw, watch, progress)
    while not run.done(precision):
        run.launch()
    baseline, *others = run.entries
    timings = [_timing(baseline, None, seed), *(_timing(entry, baseline, seed) for entry in others)]
    return Measurement(timings, len(baseline.launches), sum(map(len, baseline.launches)), watch.seen())


def no_measurement() -> Measurement:
    """Return a measurement of no candidate."""
    return Measurement([], 0, 0, Conditions(0.0))


class _TimedLane:
    """The state of one candidate during the measurement: its worker, its times by launch and round, its error."""

    worker: Worker

    def __init__(self, task: Task, mode: Mode) -> None:
        self.task = task
        self.mode = mode
        self.feeds = list(task.feeds)
        self.error: OptkitError | None = None
        self.launches: list[list[list[float]]] = []
        self.count = 1
        self.typical = math.inf
        self.opening = 0.0
        self.spent = 0.0
        self.memory_bytes: int | None = None

    def attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run ``step`` and keep its error, if any, as the result of this candidate."""
        try:
            step(*arguments)
        except OptkitError as error:
            self.error = error

    def start(self, stack: ExitStack, limit: float) -> None:
        """Open the session and warm it up until its times no longer fall, or for ``limit`` seconds."""
        started = time.perf_counter()
        self.worker = stack.enter_context(Worker(self.task.candidate))
        self.worker.load(self.feeds)
        self.opening = time.perf_counter() - started
        self.spent += self.opening if self.launches else 0.0
        self._warm_up(self.spent + limit)
        self.launches.append([])

    def keep_feeds(self, count: int) -> None:
        """Keep the first ``count`` feeds only; every turn runs all of them."""
        self.feeds = self.feeds[:count]
        self.count = self._count()
        self.worker.load(self.feeds)

    def turn(self, core: int | None) -> None:
        """Take a turn in a round, starting on ``core``."""
        self.launches[-1].append(self._time(self.count, core))

    def finish(self) -> None:
        peak = self.worker.peak_memory_bytes()
        self.memory_bytes = max((each for each in (peak, self.memory_bytes) if each is not None), default=None)

    def medians(self) -> list[list[float]]:
        """Return seconds per sample of the median inference in each round, by launch."""
        return [[median(times) / self.task.batch for times in rounds] for rounds in self.launches]

    def fastest(self) -> float:
        """Return the mean over the feeds of each feed's fastest inference, in seconds."""
        feeds = len(self.feeds)
        times = [turn for rounds in self.launches for turn in rounds]
        return fmean(min(min(turn[number::feeds]) for turn in times) for number in range(feeds))

    def samples(self) -> int:
        return sum(len(times) for rounds in self.launches for times in rounds)

    def _warm_up(self, until: float) -> None:
        chunks = [median(self._time(1))]
        self.typical = chunks[0]
        while self.spent < until and not _settled(chunks[1:]):
            chunks.append(median(self._time(self._count())))
            self.typical = chunks[-1]

    def _count(self) -> int:
        """Count the inferences of a turn: a multiple of the feeds that lasts long enough."""
        return len(self.feeds) * max(1, math.ceil(self.mode.round_seconds / (len(self.feeds) * self.typical)))

    def _time(self, count: int, core: int | None = None) -> list[float]:
        times, elapsed = self.mode.turn(self.worker, count, core)
        self.spent += elapsed
        return times


@dataclass
class _InterleavedRun:
    """Launches of all candidates, in interleaved rounds, until the measurement is precise enough or the time is up."""

    entries: list[_TimedLane]
    mode: Mode
    seconds: float
    draw: random.Random
    watch: Watch
    progress: Progress
    rounds: int = 0

    def launch(self) -> None:
        """Start a process of every candidate that has not failed, measure in rounds, and end the processes."""
        with ExitStack() as stack:
            first = not self.rounds
            limit = _WARM_UP_SHARE * (self.seconds / (1 if first else _LAUNCHES))
            for entry in self._running():
                self._tell("warming up" if first else "measuring")
                entry.attempt(entry.start, stack, limit)
            if first:
                self._plan()
                self._look()
            for _ in range(self.rounds):
                self._take_turns()
            self._look()
            for entry in self._running():
                entry.attempt(entry.finish)
        self._running()

    def done(self, precision: float) -> bool:
        launches = len(self.entries[0].launches)
        if launches < min(_FEWEST_LAUNCHES, max(2, int(self.seconds / _LAUNCH_SECONDS))):
            return False
        spent = max(entry.spent for entry in self._running())
        return spent >= self.seconds or (launches >= _LAUNCHES and self._known(precision))

    def _known(self, precision: float) -> bool:
        """Return True if the intervals are within ``precision`` and there are enough samples."""
        baseline, *others = self._running()
        if min(entry.samples() for entry in (baseline, *others)) < self.mode.samples:
            return False
        found = [statistics.paired_ratio(baseline.medians(), entry.medians()) for entry in others]
        return all(
            statistics.half_width(each) <= precision
            for each in found or [statistics.geometric_mean(baseline.medians())]
        )

    def _plan(self) -> None:
        """Plan the inferences of a turn (the same feeds for all candidates) and the rounds of a launch."""
        entries = self._running()
        slowest = max(entry.typical for entry in entries)
        fewest = min(len(entry.feeds) for entry in entries)
        kept = max(1, min(fewest, int(self.seconds / (_FEWEST_FEEDINGS * slowest))))
        for entry in entries:
            entry.attempt(entry.keep_feeds, kept)
        longest = max(entry.count * entry.typical for entry in entries)
        support = self.mode.samples * slowest / _LAUNCHES
        wanted = max(_LAUNCH_SECONDS, support, *(entry.opening for entry in entries))
        self.rounds = max(1, round(min(wanted, self.seconds / _LAUNCHES) / longest))

    def _take_turns(self) -> None:
        cores = cgroup.cores()
        core = self.draw.choice(cores) if cores else None
        entries = self._running()
        for entry in self.draw.sample(entries, len(entries)):
            entry.attempt(entry.turn, core)
        self._tell("measuring")

    def _look(self) -> None:
        self.watch.look(gpu=any("gpu" in entry.worker.facts for entry in self._running()))

    def _running(self) -> list[_TimedLane]:
        """Return the candidates that have not failed. Raises the baseline's error."""
        if self.entries[0].error is not None:
            raise self.entries[0].error
        return [entry for entry in self.entries if entry.error is None]

    def _tell(self, what: str) -> None:
        spent = max(entry.spent for entry in self.entries)
        self.progress(what, min(int(spent), int(self.seconds)), max(1, int(self.seconds)))


def _settled(medians: Sequence[float]) -> bool:
    return len(medians) >= _FEWEST_CHUNKS and medians[-1] >= _SETTLED * min(medians[:-1])


def _timing(entry: _TimedLane, baseline: _TimedLane | None, seed: int) -> Timing:
    if entry.error is not None:
        return Timing(entry.task.candidate, reason=entry.error.message)
    speedup = None if baseline is None else statistics.paired_ratio(baseline.medians(), entry.medians())
    clusters = [[time for times in rounds for time in times] for rounds in entry.launches]
    return Timing(
        entry.task.candidate,
        latency=latency_record(clusters, fastest=entry.fastest(), seed=seed) if entry.mode is LATENCY else None,
        throughput=throughput_interval(clusters, entry.task.batch),
        speedup=speedup,
        verdict=None if speedup is None else statistics.verdict(speedup),
        ratios=[] if baseline is None else statistics.ratios(baseline.medians(), entry.medians()),
        memory_bytes=entry.memory_bytes,
        facts=entry.worker.facts,
    )
