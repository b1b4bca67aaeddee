"""How fast: each candidate in processes of its own, taking turns in short rounds, compared round by round.

A launch is one process of every candidate, alive together; its rounds go to the candidates in random order, and who
waits sleeps on its socket. Two processes of the very same model differ for as long as they live, by where their memory
and their threads came to lie, so a comparison takes several launches, and its interval is over them ("Rigorous
Benchmarking in Reasonable Time", Kalibera and Jones, 2013). Time is counted on the sessions' own clocks.
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
from optkit.metrics import latency as latencies
from optkit.metrics import statistics
from optkit.progress import Progress, no_progress
from optkit.records.comparison import LatencyRecord
from optkit.records.record import Interval
from optkit.system import cgroup
from optkit.system.noise import Conditions, Watch

_LAUNCH_SECONDS = 0.2
"""How long a candidate is measured in a launch at least."""
_LAUNCHES = 8
"""The launches after which measuring may stop: with fewer, stopping as soon as the interval looks narrow would catch
the lucky ones, and the intervals would hold the truth less often than they say."""
_FEWEST_LAUNCHES = 5
"""The launches that are made where a second or more is given, however slowly a model opens: with two, Student's
interval is seven times as wide, and percentiles have none. In less time, two."""
_WARM_UP_SHARE = 0.25
"""Share of a launch that warming up may take."""
_SETTLED = 0.98
"""Times have settled when a chunk's median is no longer below this share of the least one before it."""
_FEWEST_CHUNKS = 3
_FEWEST_FEEDINGS = 20
"""How often all feeds are gone through at least; of slow models fewer feeds are kept."""


def _one_by_one(worker: Worker, count: int, core: int | None) -> tuple[list[float], float]:
    times = worker.time(count, core=core)
    return times, sum(times)


def _all_at_once(worker: Worker, count: int, core: int | None) -> tuple[list[float], float]:
    sessions = worker.candidate.sessions
    total = sessions * math.ceil(count / sessions)
    elapsed = worker.drain(total)
    return [elapsed / total], elapsed


@dataclass(frozen=True)
class Mode:
    """How a candidate takes its turn: so many inferences of a worker, beginning on a core.

    ``turn`` gives the seconds of each inference, or the mean of all, and how long the turn took. ``samples`` is how
    many of these figures are wanted at least.
    """

    turn: Callable[[Worker, int, int | None], tuple[list[float], float]]
    round_seconds: float
    """How long a round lasts at least: long against one interruption by the system, short against drift of the clock;
    and where sessions run at once, long against the time in which the last of them runs alone."""
    samples: int


LATENCY = Mode(_one_by_one, 0.04, statistics.enough_for(0.99))
"""Each inference on its own, enough of them for a 99 % quantile."""
THROUGHPUT = Mode(_all_at_once, 0.3, 1)
"""All of the candidate's sessions at work."""


@dataclass(frozen=True)
class Task:
    """A candidate and what it is timed on: feeds of ``batch`` samples each."""

    candidate: Candidate
    feeds: Sequence[Arrays]
    batch: int = 1


@dataclass(frozen=True)
class Timing:
    """What was measured of one candidate, or why it failed.

    ``speedup`` is the baseline's time per sample over this one's; ``None`` for the baseline itself. ``ratios`` are the
    same for each round of each launch.
    """

    candidate: Candidate
    reason: str | None = None
    latency: LatencyRecord | None = None
    throughput: Interval | None = None
    speedup: Interval | None = None
    verdict: statistics.SpeedVerdict | None = None
    ratios: list[list[float]] = field(default_factory=list)
    memory_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """The candidates' timings, the launches and rounds behind them, and what else the machine did meanwhile."""

    timings: list[Timing]
    launches: int
    rounds: int
    conditions: Conditions


def measure(
    tasks: Sequence[Task],
    *,
    mode: Mode = LATENCY,
    seconds: float = 10.0,
    precision: float = statistics.PRECISION,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Measurement:
    """Time the candidates; the first is the baseline, and one that fails carries its reason.

    Launches go on until every speed-up's interval is within ``precision`` of its value and the samples support the 99 %
    quantile, or until one candidate took ``seconds``, its opening in later launches included. Raises the baseline's
    error, since nothing can be compared without it.
    """
    watch = Watch()
    draw = random.Random(seed)  # noqa: S311  orders and cores, no secrets
    race = _Race([_Lane(task, mode) for task in tasks], mode, seconds, draw, watch, progress)
    while not race.done(precision):
        race.launch()
    baseline, *others = race.lanes
    timings = [_timing(baseline, None, seed), *(_timing(lane, baseline, seed) for lane in others)]
    return Measurement(timings, len(baseline.launches), sum(map(len, baseline.launches)), watch.seen())


def nothing() -> Measurement:
    """A measurement of no candidate."""
    return Measurement([], 0, 0, Conditions(0.0))


class _Lane:
    """One candidate's way through the measurement: its times by launch and round, and what went wrong."""

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
        """Do ``step``; an error of it is this lane's result."""
        try:
            step(*arguments)
        except OptkitError as error:
            self.error = error

    def start(self, stack: ExitStack, limit: float) -> None:
        """Open the session and run it until its times no longer fall, or for ``limit`` seconds."""
        started = time.perf_counter()
        self.worker = stack.enter_context(Worker(self.task.candidate))
        self.worker.load(self.feeds)
        self.opening = time.perf_counter() - started
        self.spent += self.opening if self.launches else 0.0
        self._warm_up(self.spent + limit)
        self.launches.append([])

    def keep_feeds(self, count: int) -> None:
        """Go on with the first ``count`` feeds, in rounds that go through all of them."""
        self.feeds = self.feeds[:count]
        self.count = self._count()
        self.worker.load(self.feeds)

    def turn(self, core: int | None) -> None:
        """One round, beginning on ``core``."""
        self.launches[-1].append(self._time(self.count, core))

    def finish(self) -> None:
        peak = self.worker.peak_memory_bytes()
        self.memory_bytes = max((each for each in (peak, self.memory_bytes) if each is not None), default=None)

    def medians(self) -> list[list[float]]:
        """Seconds per sample: the median inference of each round, by launch."""
        return [[median(times) / self.task.batch for times in rounds] for rounds in self.launches]

    def fastest(self) -> float:
        """Seconds: each feed's fastest inference, their mean over the feeds, which rounds go through in turn."""
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
        """Inferences for a round: a multiple of the feeds that lasts long enough."""
        return len(self.feeds) * max(1, math.ceil(self.mode.round_seconds / (len(self.feeds) * self.typical)))

    def _time(self, count: int, core: int | None = None) -> list[float]:
        times, elapsed = self.mode.turn(self.worker, count, core)
        self.spent += elapsed
        return times


@dataclass
class _Race:
    """The lanes on their way, launch after launch."""

    lanes: list[_Lane]
    mode: Mode
    seconds: float
    draw: random.Random
    watch: Watch
    progress: Progress
    rounds: int = 0

    def launch(self) -> None:
        """A process of every candidate that has not failed, rounds in random order, and the end of the processes."""
        with ExitStack() as stack:
            first = not self.rounds
            limit = _WARM_UP_SHARE * (self.seconds / (1 if first else _LAUNCHES))
            for lane in self._running():
                self._tell("warming up" if first else "measuring")
                lane.attempt(lane.start, stack, limit)
            if first:
                self._plan()
                self._look()
            for _ in range(self.rounds):
                self._take_turns()
            self._look()
            for lane in self._running():
                lane.attempt(lane.finish)
        self._running()

    def done(self, precision: float) -> bool:
        launches = len(self.lanes[0].launches)
        if launches < min(_FEWEST_LAUNCHES, max(2, int(self.seconds / _LAUNCH_SECONDS))):
            return False
        spent = max(lane.spent for lane in self._running())
        return spent >= self.seconds or (launches >= _LAUNCHES and self._known(precision))

    def _known(self, precision: float) -> bool:
        """Whether all is known that was asked for."""
        baseline, *others = self._running()
        if min(lane.samples() for lane in (baseline, *others)) < self.mode.samples:
            return False
        found = [statistics.paired_ratio(baseline.medians(), lane.medians()) for lane in others]
        return all(
            statistics.half_width(each) <= precision
            for each in found or [statistics.geometric_mean(baseline.medians())]
        )

    def _plan(self) -> None:
        """How many inferences make a round (whole turns over the same feeds for all), and how many rounds a launch."""
        lanes = self._running()
        slowest = max(lane.typical for lane in lanes)
        fewest = min(len(lane.feeds) for lane in lanes)
        kept = max(1, min(fewest, int(self.seconds / (_FEWEST_FEEDINGS * slowest))))
        for lane in lanes:
            lane.attempt(lane.keep_feeds, kept)
        longest = max(lane.count * lane.typical for lane in lanes)
        support = self.mode.samples * slowest / _LAUNCHES
        wanted = max(_LAUNCH_SECONDS, support, *(lane.opening for lane in lanes))
        self.rounds = max(1, round(min(wanted, self.seconds / _LAUNCHES) / longest))

    def _take_turns(self) -> None:
        cores = cgroup.cores()
        core = self.draw.choice(cores) if cores else None
        lanes = self._running()
        for lane in self.draw.sample(lanes, len(lanes)):
            lane.attempt(lane.turn, core)
        self._tell("measuring")

    def _look(self) -> None:
        self.watch.look(gpu=any("gpu" in lane.worker.facts for lane in self._running()))

    def _running(self) -> list[_Lane]:
        """The lanes that have not failed. Raises the baseline's error."""
        if self.lanes[0].error is not None:
            raise self.lanes[0].error
        return [lane for lane in self.lanes if lane.error is None]

    def _tell(self, what: str) -> None:
        spent = max(lane.spent for lane in self.lanes)
        self.progress(what, min(int(spent), int(self.seconds)), max(1, int(self.seconds)))


def _settled(medians: Sequence[float]) -> bool:
    return len(medians) >= _FEWEST_CHUNKS and medians[-1] >= _SETTLED * min(medians[:-1])


def _timing(lane: _Lane, baseline: _Lane | None, seed: int) -> Timing:
    if lane.error is not None:
        return Timing(lane.task.candidate, reason=lane.error.message)
    speedup = None if baseline is None else statistics.paired_ratio(baseline.medians(), lane.medians())
    clusters = [[time for times in rounds for time in times] for rounds in lane.launches]
    return Timing(
        lane.task.candidate,
        latency=latencies.record(clusters, fastest=lane.fastest(), seed=seed) if lane.mode is LATENCY else None,
        throughput=latencies.throughput(clusters, lane.task.batch),
        speedup=speedup,
        verdict=None if speedup is None else statistics.verdict(speedup),
        ratios=[] if baseline is None else statistics.ratios(baseline.medians(), lane.medians()),
        memory_bytes=lane.memory_bytes,
        facts=lane.worker.facts,
    )
