"""Confidence intervals of quality, for proportions, paired proportions and by bootstrap; McNemar's exact test."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from optkit.metrics.statistics import CONFIDENCE, expanded_tail
from optkit.records.record import Interval

_RESAMPLES = 1000
SIGNIFICANT = 0.05
"""A difference counts as shown below this p-value, the counterpart of intervals of 95 %."""
_Z = NormalDist().inv_cdf((1.0 + CONFIDENCE) / 2.0)


def proportion(hits: float, count: int) -> Interval:
    """Compute Wilson's interval of ``hits`` in ``count``; its width is never zero, not even if all or none hit."""
    share, z2 = hits / count, _Z**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return _around(share, max(0.0, middle - half), min(1.0, middle + half))


def paired_proportions(only_first: int, only_second: int, count: int) -> Interval:
    """Compute the first proportion minus the second, of ``count`` pairs, with Bonett and Price's adjusted interval.

    Pairs that agree count too: an interval of no difference in 200 pairs still allows for a small one.
    """
    first, second = ((hits + 1) / (count + 2) for hits in (only_first, only_second))
    half = _Z * math.sqrt((first + second - (first - second) ** 2) / (count + 2))
    low, high = first - second - half, first - second + half
    return _around((only_first - only_second) / count, max(-1.0, low), min(1.0, high))


def bootstrap(statistic: Callable[[np.ndarray], float], count: int, *, seed: int) -> Interval:
    """Compute ``statistic`` of the indices of ``count`` samples (two or more) with its percentile bootstrap interval.

    The percentiles are widened for few samples, as Student's t is.
    """
    generator = np.random.default_rng(seed)
    values = [statistic(generator.integers(0, count, count)) for _ in range(_RESAMPLES)]
    tail = expanded_tail((1.0 - CONFIDENCE) / 2.0, count)
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return _around(statistic(np.arange(count)), float(low), float(high))


def _around(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=min(low, value), high=max(high, value), confidence=CONFIDENCE)


def p_value(only_first: int, only_second: int) -> float:
    """Compute the exact two-sided p-value of the binomial test with probability 1/2."""
    from scipy.special import bdtr  # a quarter of a second to import

    return min(1.0, 2.0 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def detectable(only_candidate: int, count: int) -> float | None:
    """Compute the smallest significant loss of ``count`` samples on ``only_candidate`` of which the candidate alone is
    right; ``None`` if no loss would be significant.

    Never below 6 / ``count``, because five samples against none may be chance.
    """
    losses = range(only_candidate + 1, count - only_candidate + 1)
    first = bisect_left(losses, True, key=lambda lost: p_value(lost, only_candidate) < SIGNIFICANT)
    return (losses[first] - only_candidate) / count if first < len(losses) else None
