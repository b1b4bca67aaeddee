"""How fast: each candidate in a process of its own, taking turns in short rounds, compared round by round.

Time is counted on the sessions' own clocks; between its turns a worker sleeps on its socket. What is compared is the
median inference of each round, so a speed-up speaks of typical latency; tails show in the percentiles, and throughput
follows from the mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np

from optkit import machine, stats
from optkit.errors import OptkitError
from optkit.results import Interval, LatencyRecord
from optkit.stage import Progress, no_progress
from optkit.tensors import Arrays, check_feed
from optkit.worker import Candidate, Worker

_ROUND_SECONDS = 0.04
"""How long a round lasts at least: long against one interruption by the system, short against drift of the clock."""
_WARM_UP_SHARE = 0.25
"""Share of a candidate's time that warming up may take."""
_SETTLED = 0.98
"""Times have settled when a chunk's median is no longer below this share of the least one before it."""
_FEWEST_CHUNKS = 3
_FEWEST_ROUNDS = 5
_ROUNDS_BEFORE_STOPPING = 20
_CHECK_EVERY = 5


@dataclass(frozen=True)
class Timing:
    """What was measured of one candidate, or why it failed.

    ``speedup`` is the baseline's time over this one's; ``None`` for the baseline itself.
    """

    candidate: Candidate
    reason: str | None = None
    latency: LatencyRecord | None = None
    speedup: Interval | None = None
    verdict: stats.Verdict | None = None
    memory_bytes: int | None = None
    rounds: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def measure(
    candidates: Sequence[Candidate],
    feeds: Sequence[Arrays],
    *,
    seconds: float = 10.0,
    precision: float = 0.01,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[Timing]:
    """Time the candidates on ``feeds``; the first is the baseline, and one that fails carries its reason.

    Rounds go on until every speed-up's interval is within ``precision`` of its value and the samples support the 99 %
    quantile, or until one candidate has run for ``seconds``. Raises the baseline's error, since nothing can be
    compared without it.
    """
    lanes = [_Lane(candidate) for candidate in candidates]
    with ExitStack() as stack:
        for index, lane in enumerate(lanes):
            progress("warming up", index, len(lanes))
            lane.attempt(lane.start, stack, feeds, _WARM_UP_SHARE * seconds)
        running = _running(lanes)
        _plan_rounds(running, feeds, seconds)
        _take_turns(running, seconds, precision, seed, progress)
        for lane in _running(lanes):
            lane.attempt(lane.finish)
    return [_timing(lane, None if lane is lanes[0] else lanes[0], seed) for lane in lanes]


class _Lane:
    """One candidate's way through the measurement: its worker, its times by round, and what went wrong."""

    worker: Worker

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.error: OptkitError | None = None
        self.rounds: list[list[float]] = []
        self.count = 1
        self.typical = math.inf
        self.spent = 0.0
        self.memory_bytes: int | None = None

    def attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        """Do ``step``; an error of it is this lane's result."""
        try:
            step(*arguments)
        except OptkitError as error:
            self.error = error

    def start(self, stack: ExitStack, feeds: Sequence[Arrays], limit: float) -> None:
        """Open the session and run it until its times no longer fall, or for ``limit`` seconds."""
        self.worker = stack.enter_context(Worker(self.candidate))
        for feed in feeds:
            check_feed(feed, self.worker.signature.inputs, where="the feed to time with")
        self.worker.load(feeds)
        self.typical = median(self._time(len(feeds)))
        medians: list[float] = []
        while self.spent < limit and not _settled(medians):
            self.typical = median(self._time(_count(len(feeds), self.typical)))
            medians.append(self.typical)

    def turn(self, core: int | None) -> None:
        """One round, beginning on ``core``."""
        self.rounds.append(self._time(self.count, core))

    def finish(self) -> None:
        self.memory_bytes = self.worker.peak_memory_bytes()

    def medians(self) -> list[float]:
        """The median inference of each round."""
        return [median(times) for times in self.rounds]

    def samples(self) -> list[float]:
        return [time for times in self.rounds for time in times]

    def _time(self, count: int, core: int | None = None) -> list[float]:
        times = self.worker.time(count, core=core)
        self.spent += sum(times)
        return times


def _settled(medians: Sequence[float]) -> bool:
    return len(medians) >= _FEWEST_CHUNKS and medians[-1] >= _SETTLED * min(medians[:-1])


def _running(lanes: Sequence[_Lane]) -> list[_Lane]:
    """The lanes that have not failed. Raises the baseline's error."""
    if lanes[0].error is not None:
        raise lanes[0].error
    return [lane for lane in lanes if lane.error is None]


def _plan_rounds(lanes: Sequence[_Lane], feeds: Sequence[Arrays], seconds: float) -> None:
    """How many inferences make a round: whole turns over the same feeds for all.

    Of slow models fewer feeds are kept, so that the time still allows enough rounds.
    """
    slowest = max(lane.typical for lane in lanes)
    kept = max(1, min(len(feeds), int(seconds / (_ROUNDS_BEFORE_STOPPING * slowest))))
    for lane in lanes:
        lane.count = _count(kept, lane.typical)
        if kept < len(feeds):
            lane.attempt(lane.worker.load, feeds[:kept])


def _count(feeds: int, typical: float) -> int:
    """Inferences for a round: a multiple of ``feeds`` that lasts long enough."""
    return feeds * max(1, math.ceil(_ROUND_SECONDS / (feeds * typical)))


def _take_turns(lanes: list[_Lane], seconds: float, precision: float, seed: int, progress: Progress) -> None:
    """Rounds in random order, until what is asked for is known or the time is up."""
    draw = random.Random(seed)  # noqa: S311  orders and cores, no secrets
    cores = machine.cores()
    number = 0
    while not _done(lanes, number, seconds, precision):
        core = draw.choice(cores) if cores else None
        for lane in draw.sample(lanes, len(lanes)):
            lane.attempt(lane.turn, core)
        lanes = _running(lanes)
        number += 1
        spent = max(lane.spent for lane in lanes)
        progress("measuring", min(int(spent), int(seconds)), max(1, int(seconds)))


def _done(lanes: Sequence[_Lane], rounds: int, seconds: float, precision: float) -> bool:
    if rounds < _FEWEST_ROUNDS:
        return False
    if max(lane.spent for lane in lanes) >= seconds:
        return True
    return rounds >= _ROUNDS_BEFORE_STOPPING and rounds % _CHECK_EVERY == 0 and _tight(lanes, precision)


def _tight(lanes: Sequence[_Lane], precision: float) -> bool:
    baseline, *others = lanes
    if not others or min(len(lane.samples()) for lane in lanes) < stats.enough_for(0.99):
        return False
    ratios = (stats.paired_ratio(baseline.medians(), lane.medians()) for lane in others)
    return all(stats.half_width(ratio) <= precision for ratio in ratios)


def _timing(lane: _Lane, baseline: _Lane | None, seed: int) -> Timing:
    if lane.error is not None:
        return Timing(lane.candidate, reason=lane.error.message)
    speedup = None if baseline is None else stats.paired_ratio(baseline.medians(), lane.medians(), seed=seed)
    return Timing(
        lane.candidate,
        latency=_latency(lane.rounds, seed),
        speedup=speedup,
        verdict=None if speedup is None else stats.verdict(speedup),
        memory_bytes=lane.memory_bytes,
        rounds=len(lane.rounds),
        facts=lane.worker.facts,
    )


def _latency(rounds: Sequence[Sequence[float]], seed: int) -> LatencyRecord:
    samples = [time for times in rounds for time in times]
    edges, counts = stats.histogram(samples)
    p99 = stats.quantile(samples, 0.99)
    several = len(rounds) > 1
    return LatencyRecord(
        count=len(samples),
        mean=fmean(samples),
        median=median(samples),
        p90=stats.quantile(samples, 0.90),
        p95=stats.quantile(samples, 0.95),
        p99=p99,
        p99_interval=stats.clustered_interval(rounds, _p99, seed=seed) if several and p99 is not None else None,
        mean_interval=stats.clustered_interval(rounds, _mean, seed=seed) if several else None,
        histogram_edges=edges,
        histogram_counts=counts,
    )


def _p99(samples: np.ndarray) -> float:
    return float(np.quantile(samples, 0.99))


def _mean(samples: np.ndarray) -> float:
    return float(samples.mean())
