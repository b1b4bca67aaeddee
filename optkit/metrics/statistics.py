"""Quantiles, intervals and verdicts: pure functions of measured numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from optkit.options.measuring import MeasurementOptions, Precision
from optkit.records.record import Interval

Numbers = Sequence[float] | np.ndarray
Launches = Sequence[Numbers]
"""A value for each round of each launch."""
SpeedVerdict = Literal["faster", "slower", "no difference", "inconclusive"]

FEWEST_IN_TAIL = 5
"""Samples that must lie beyond a quantile for it to be reported: it takes 50 for p90, 100 for p95, 500 for p99."""
MARGIN = 0.03
"""Ratios from 1/1.03 to 1.03 count as equal. Of 100 intervals of 95 % five miss the truth, so without a margin a model
compared with itself would be called faster or slower in five of 100 runs."""
SECONDS = MeasurementOptions().seconds
"""Measuring time per candidate by default, at most."""
PRECISION = Precision().precision
"""Half-width of a ratio's interval, as a share of its value, at which measuring ends by default."""
CONFIDENCE = 0.95
_TAIL_PROBABILITY = (1.0 - CONFIDENCE) / 2.0
"""Probability outside an interval on either side."""
_RESAMPLES = 400
_MANY = 50_000
"""Values that are resampled at most: more do not narrow the intervals of quantiles."""
_FEWEST_CLUSTERS = 5
"""Clusters below which bootstrap intervals are too narrow, even with expanded tails."""


def quantile(values: Numbers, level: float) -> float | None:
    """Return the quantile, or ``None`` when fewer than ``FEWEST_IN_TAIL`` values lie beyond it."""
    if round(len(values) * (1.0 - level), 9) < FEWEST_IN_TAIL:
        return None
    return float(np.quantile(values, level))


def enough_for(level: float) -> int:
    """Count the values that the quantile ``level`` needs."""
    return math.ceil(round(FEWEST_IN_TAIL / (1.0 - level), 9))


def histogram(values: Numbers, bins: int = 40) -> tuple[list[float], list[int]]:
    """Return edges and counts of equal bins from the smallest value to p99; the last bin includes all larger values.

    A single long interruption would otherwise squeeze everything else into one bin.
    """
    least, top = float(np.min(values)), float(np.quantile(values, 0.99))
    span = (least, top) if top > 1.001 * least else (0.99 * least, 1.01 * least)
    counts, edges = np.histogram(np.clip(values, *span), bins=bins, range=span)
    return edges.tolist(), counts.tolist()


def paired_ratio(baseline: Launches, candidate: Launches) -> Interval:
    """Compute the geometric mean of ``baseline / candidate``, round by round, with its interval over the launches.

    Rounds are paired, so noise that lasts longer than a round cancels. Rounds of one launch share its processes and are
    not independent, so Student's t is applied to the launches' means; needs two launches.
    """
    return geometric_mean(ratios(baseline, candidate))


def ratios(baseline: Launches, candidate: Launches) -> list[list[float]]:
    """Divide ``baseline`` by ``candidate``, for each round of each launch."""
    pairs = zip(baseline, candidate, strict=True)
    return [(np.asarray(before, float) / np.asarray(after, float)).tolist() for before, after in pairs]


def geometric_mean(launches: Launches) -> Interval:
    """Compute the geometric mean over all launches, equally weighted, with its interval; needs two launches."""
    mean = mean_interval([float(np.log(np.asarray(values, float)).mean()) for values in launches])
    return Interval(
        value=math.exp(mean.value), low=math.exp(mean.low), high=math.exp(mean.high), confidence=mean.confidence
    )


def mean_interval(values: Numbers) -> Interval:
    """Compute the mean with Student's 95 % interval. Raises ValueError for fewer than two values."""
    numbers = np.asarray(values, float)
    count = len(numbers)
    if count < 2:
        raise ValueError(f"an interval needs at least two values, not {count}")
    mean = float(numbers.mean())
    half = student(1.0 - _TAIL_PROBABILITY, count - 1) * float(numbers.std(ddof=1)) / math.sqrt(count)
    return Interval(value=mean, low=mean - half, high=mean + half, confidence=CONFIDENCE)


def clustered_quantiles(
    clusters: Sequence[Numbers], levels: Sequence[float], *, seed: int = 0
) -> list[Interval] | None:
    """Compute quantiles over all values with their bootstrap intervals; ``None`` for fewer than five clusters.

    Whole clusters are resampled: the values of a launch are alike because they come from one process.
    """
    count = len(clusters)
    if count < _FEWEST_CLUSTERS:
        return None
    arrays = _thinned(clusters)
    picks = np.random.default_rng(seed).integers(0, count, size=(_RESAMPLES, count))
    drawn = [np.quantile(np.concatenate([arrays[index] for index in pick]), levels) for pick in picks]
    tail = expanded_tail(_TAIL_PROBABILITY, count)
    values = np.quantile(np.concatenate([np.asarray(cluster, float) for cluster in clusters]), levels)
    lows, highs = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return [
        Interval(value=value, low=min(low, value), high=max(high, value), confidence=CONFIDENCE)
        for value, low, high in zip(values.tolist(), lows.tolist(), highs.tolist(), strict=True)
    ]


def _thinned(clusters: Sequence[Numbers]) -> list[np.ndarray]:
    """Sort each cluster, and keep evenly spaced values of it where there are too many in all."""
    step = max(1, sum(map(len, clusters)) // _MANY)
    return [np.sort(np.asarray(cluster, float))[step // 2 :: step] for cluster in clusters]


def student(level: float, freedom: int) -> float:
    """Compute the quantile ``level`` of Student's t with ``freedom`` degrees of freedom."""
    from scipy.special import stdtrit  # a quarter of a second to import

    return float(stdtrit(freedom, level))


def expanded_tail(tail: float, count: int) -> float:
    """Widen ``tail`` so that the bootstrap interval of ``count`` values has its nominal coverage.

    "What Teachers Should Know About the Bootstrap", Hesterberg, 2015.
    """
    return NormalDist().cdf(-student(1.0 - tail, count - 1) * math.sqrt(count / (count - 1)))


def verdict(interval: Interval, *, margin: float = MARGIN) -> SpeedVerdict:
    """Judge a speed-up by its interval.

    ``no difference``: the interval lies within the margin around one. ``faster``, ``slower``: it lies beyond the
    margin, on one side. ``inconclusive``: it crosses an edge of the margin, because the measurement was too short or
    the difference is about as large as between two processes of one model.
    """
    least, most = 1.0 / (1.0 + margin), 1.0 + margin
    if interval.low > most:
        return "faster"
    if interval.high < least:
        return "slower"
    return "no difference" if least <= interval.low and interval.high <= most else "inconclusive"


def half_width(interval: Interval) -> float:
    """Compute half the interval's width over its value."""
    return (interval.high - interval.low) / (2.0 * interval.value)
