"""Quantiles, bootstrap intervals and verdicts: pure functions over measured numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from optkit.results import Interval

Numbers = Sequence[float] | np.ndarray
Verdict = Literal["faster", "slower", "no difference", "inconclusive"]

TAIL = 5
"""How many samples must lie beyond a quantile for it to be reported: 50 for p90, 100 for p95, 500 for p99."""
MARGIN = 0.03
"""Ratios from 1/1.03 to 1.03 count as equal: two processes of one model differ by that much through memory layout."""
_RESAMPLES = 2000
_CLUSTER_RESAMPLES = 400


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


def paired_ratio(baseline: Numbers, candidate: Numbers, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The geometric mean of ``baseline / candidate``, round by round, with its bootstrap interval over the rounds.

    Rounds are paired, so what slowed the machine down for a while cancels.
    """
    logs = np.log(np.asarray(baseline, float) / np.asarray(candidate, float))
    mean = mean_interval(logs, confidence=confidence, seed=seed)
    return Interval(value=math.exp(mean.value), low=math.exp(mean.low), high=math.exp(mean.high), confidence=confidence)


def mean_interval(values: Numbers, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The mean with its percentile bootstrap interval, widened for few values as Student's t is; needs two values."""
    numbers = np.asarray(values, float)
    count = len(numbers)
    if count < 2:
        raise ValueError(f"an interval needs at least two values, not {count}")
    picks = np.random.default_rng(seed).integers(0, count, size=(_RESAMPLES, count))
    tail = expanded_tail((1.0 - confidence) / 2.0, count)
    low, high = np.quantile(numbers[picks].mean(axis=1), [tail, 1.0 - tail])
    return Interval(value=float(numbers.mean()), low=float(low), high=float(high), confidence=confidence)


def clustered_interval(
    clusters: Sequence[Numbers], statistic: Callable[[np.ndarray], float], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """``statistic`` over all values with its bootstrap interval, resampling whole clusters: rounds, whose values are
    alike because the machine was in one state. Needs two clusters.
    """
    arrays = [np.asarray(cluster, float) for cluster in clusters]
    count = len(arrays)
    if count < 2:
        raise ValueError(f"an interval needs at least two clusters, not {count}")
    picks = np.random.default_rng(seed).integers(0, count, size=(_CLUSTER_RESAMPLES, count))
    values = [statistic(np.concatenate([arrays[index] for index in pick])) for pick in picks]
    tail = expanded_tail((1.0 - confidence) / 2.0, count)
    low, high = np.quantile(values, [tail, 1.0 - tail])
    value = statistic(np.concatenate(arrays))
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value), confidence=confidence)


def expanded_tail(tail: float, count: int) -> float:
    """The tail to cut so that the interval of ``count`` values has its nominal coverage (Hesterberg's correction)."""
    normal = NormalDist()
    z, freedom = normal.inv_cdf(1.0 - tail), count - 1
    # Student's t by the first terms of Cornish and Fisher's expansion.
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return normal.cdf(-student * math.sqrt(count / freedom))


def verdict(interval: Interval, *, margin: float = MARGIN) -> Verdict:
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
