"""McNemar's test: whether one of two models is right more often, by the samples on which only one of them is.

Q. McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947). In
its exact form: were the two equally good, the right one of each such sample would be a fair coin's toss.
"""

from __future__ import annotations

from bisect import bisect_left

SIGNIFICANT = 0.05
"""A difference counts as shown below this p-value, the counterpart of intervals of 95 %."""


def p_value(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value: how often fair coins fall at least as unevenly."""
    from scipy.special import bdtr  # a quarter of a second to import

    return min(1.0, 2.0 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def detectable(only_candidate: int, count: int) -> float | None:
    """The smallest loss that ``count`` samples could have shown, of which only the candidate is right on that many.

    ``None`` where they could have shown none. Never below 6 / ``count``: five samples against none may be chance.
    """
    losses = range(only_candidate + 1, count - only_candidate + 1)
    first = bisect_left(losses, True, key=lambda lost: p_value(lost, only_candidate) < SIGNIFICANT)
    return (losses[first] - only_candidate) / count if first < len(losses) else None
