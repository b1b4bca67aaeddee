"""Quantiles, intervals and verdicts: pure functions over measured numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from optkit.records.record import Interval

Numbers = Sequence[float] | np.ndarray
Launches = Sequence[Numbers]
"""A value for each round of each launch."""
SpeedVerdict = Literal["faster", "slower", "no difference", "inconclusive"]

TAIL = 5
"""How many samples must lie beyond a quantile for it to be reported: 50 for p90, 100 for p95, 500 for p99."""
MARGIN = 0.03
"""Ratios from 1/1.03 to 1.03 count as equal. Of 100 intervals of 95 % five miss the truth, so without a margin a model
compared with itself would be called faster or slower in five of 100 runs."""
PRECISION = 0.01
"""How narrow the interval of a ratio is to be by default: half its width as a share of its value."""
CONFIDENCE = 0.95
_TAIL = (1.0 - CONFIDENCE) / 2.0
_RESAMPLES = 400
_MANY = 50_000
"""Values that are resampled at most: they tell quantiles as well as millions would."""
_FEWEST_CLUSTERS = 5
"""Resampling fewer clusters gives intervals that are too narrow, whatever is done to their tails."""


def quantile(values: Numbers, level: float) -> float | None:
    """The quantile, or ``None`` when fewer than ``TAIL`` values lie beyond it."""
    if round(len(values) * (1.0 - level), 9) < TAIL:
        return None
    return float(np.quantile(values, level))


def enough_for(level: float) -> int:
    """How many values support the quantile ``level``."""
    return math.ceil(round(TAIL / (1.0 - level), 9))


def histogram(values: Numbers, bins: int = 40) -> tuple[list[float], list[int]]:
    """Edges and counts of equal bins from the least value to the 99 % quantile; the last bin also holds what is above.

    A single long interruption would otherwise squeeze everything else into one bin.
    """
    least, top = float(np.min(values)), float(np.quantile(values, 0.99))
    span = (least, top) if top > 1.001 * least else (0.99 * least, 1.01 * least)
    counts, edges = np.histogram(np.clip(values, *span), bins=bins, range=span)
    return edges.tolist(), counts.tolist()


def paired_ratio(baseline: Launches, candidate: Launches) -> Interval:
    """The geometric mean of ``baseline / candidate``, round by round, with its interval over the launches.

    Rounds are paired, so what slowed the machine down for a while cancels. Rounds of one launch share its processes
    and are no independent evidence, so it is the launches' means that Student's t is applied to; needs two launches.
    """
    return geometric_mean(ratios(baseline, candidate))


def ratios(baseline: Launches, candidate: Launches) -> list[list[float]]:
    """``baseline / candidate`` for each round of each launch."""
    pairs = zip(baseline, candidate, strict=True)
    return [(np.asarray(before, float) / np.asarray(after, float)).tolist() for before, after in pairs]


def geometric_mean(launches: Launches) -> Interval:
    """The geometric mean over all launches, each weighing the same, with its interval; needs two launches."""
    mean = mean_interval([float(np.log(np.asarray(values, float)).mean()) for values in launches])
    return Interval(
        value=math.exp(mean.value), low=math.exp(mean.low), high=math.exp(mean.high), confidence=mean.confidence
    )


def mean_interval(values: Numbers) -> Interval:
    """The mean with Student's 95 % interval; needs two values."""
    numbers = np.asarray(values, float)
    count = len(numbers)
    if count < 2:
        raise ValueError(f"an interval needs at least two values, not {count}")
    mean = float(numbers.mean())
    half = student(1.0 - _TAIL, count - 1) * float(numbers.std(ddof=1)) / math.sqrt(count)
    return Interval(value=mean, low=mean - half, high=mean + half, confidence=CONFIDENCE)


def clustered_quantiles(
    clusters: Sequence[Numbers], levels: Sequence[float], *, seed: int = 0
) -> list[Interval] | None:
    """Quantiles over all values with their bootstrap intervals; ``None`` for too few clusters.

    Resampled are whole clusters: launches, whose values are alike because they come from one process.
    """
    count = len(clusters)
    if count < _FEWEST_CLUSTERS:
        return None
    arrays = _thinned(clusters)
    picks = np.random.default_rng(seed).integers(0, count, size=(_RESAMPLES, count))
    drawn = [np.quantile(np.concatenate([arrays[index] for index in pick]), levels) for pick in picks]
    tail = expanded_tail(_TAIL, count)
    values = np.quantile(np.concatenate([np.asarray(cluster, float) for cluster in clusters]), levels)
    lows, highs = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return [
        Interval(value=value, low=min(low, value), high=max(high, value), confidence=CONFIDENCE)
        for value, low, high in zip(values.tolist(), lows.tolist(), highs.tolist(), strict=True)
    ]


def _thinned(clusters: Sequence[Numbers]) -> list[np.ndarray]:
    """The clusters, each by evenly spaced ones of its sorted values where all together are too many."""
    step = max(1, sum(map(len, clusters)) // _MANY)
    return [np.sort(np.asarray(cluster, float))[step // 2 :: step] for cluster in clusters]


def student(level: float, freedom: int) -> float:
    """The quantile of Student's t."""
    from scipy.special import stdtrit  # a quarter of a second to import

    return float(stdtrit(freedom, level))


def expanded_tail(tail: float, count: int) -> float:
    """The tail to cut so that the bootstrap interval of ``count`` values has its nominal coverage.

    "What Teachers Should Know About the Bootstrap", Hesterberg, 2015.
    """
    return NormalDist().cdf(-student(1.0 - tail, count - 1) * math.sqrt(count / (count - 1)))


def verdict(interval: Interval, *, margin: float = MARGIN) -> SpeedVerdict:
    """What the interval of a speed-up says.

    ``no difference``: all of it lies within the margin of one. ``faster``, ``slower``: all of it lies beyond the
    margin, on one side. ``inconclusive``: it reaches over an edge of the margin, so that the measurement was too
    short, or the difference is no larger than what two processes of one model may show.
    """
    least, most = 1.0 / (1.0 + margin), 1.0 + margin
    if interval.low > most:
        return "faster"
    if interval.high < least:
        return "slower"
    return "no difference" if least <= interval.low and interval.high <= most else "inconclusive"


def half_width(interval: Interval) -> float:
    """Half the interval's width, relative to its value."""
    return (interval.high - interval.low) / (2.0 * interval.value)
