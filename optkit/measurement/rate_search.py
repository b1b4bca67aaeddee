"""Search for the highest rate of queries at which the 99 % quantile of latencies stays within a limit.

The search knows no session: queries are served by a function that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from optkit import units
from optkit.errors import TargetError

QUANTILE = 0.99
BRACKET = 1.05
"""The search ends when the least rate refused is at most this multiple of the highest rate held."""
PROBES = 10
"""Parts that the time is divided into: six probes make the bracket narrow, and a rate that fails is probed twice."""
_FEWEST = 100
"""Least number of queries in a probe."""
_HALVINGS = 4
"""Probes that are made, although the time is up, before the search fails because no rate was held."""


@dataclass(frozen=True)
class Probe:
    """One rate that was tried."""

    rate: float
    """Queries per second."""
    p99: float
    """The 99 % quantile of the latencies, in seconds."""
    kept: bool
    """True if the p99 was within the limit."""


@dataclass
class RateSearch:
    """A bisection between a rate that was held and one that was refused.

    All probes have one pattern of arrivals, so that none succeeds by a luckier pattern than that of another; the luck
    of the pattern itself remains. A rate is refused only if it fails twice: otherwise one disturbance from outside
    would limit all later probes.
    """

    limit: float
    """Seconds that the p99 may take."""
    seconds: float
    """Time for the search, in seconds of load."""
    arrivals: Callable[[float, int], list[float]]
    """Makes the arrival times of a number of queries at a rate: seconds from the start, ascending."""
    serve: Callable[[float, list[float]], list[float]]
    """Serves queries at a rate, by their arrival times, and returns the latency of each in seconds."""
    probes: list[Probe] = field(default_factory=list)
    held: float | None = None
    """The highest rate held so far, in queries per second."""
    refused: float | None = None
    """The least rate refused so far; first the capacity."""
    latencies: list[float] = field(default_factory=list)
    """Latencies at ``held``, in seconds."""
    spent: float = 0.0
    """Seconds of load so far."""

    def run(self, single: float, capacity: float) -> None:
        """Find the highest rate.

        ``single`` is the duration of one inference without load in seconds, ``capacity`` the queries per second of a
        closed loop, which no server exceeds. Raises TargetError if no rate is held, or the time is too short to know.
        """
        self._check_possible(single, capacity)
        self.refused, rate = capacity, capacity / 2
        while (self.held is None or self.refused > BRACKET * self.held) and not self._time_is_up():
            if self._probe(rate) or (not self._time_is_up() and self._probe(rate)):
                self.held = rate
            else:
                self.refused = rate
            rate = float(np.sqrt((self.held or self.refused / 4) * self.refused))
        if self.held is None:
            raise TargetError(f"no rate that was tried keeps the p99 within {units.seconds(self.limit)}")

    def _check_possible(self, single: float, capacity: float) -> None:
        if single > self.limit:
            raise TargetError(
                f"one inference without load takes {units.seconds(single)}, more than the limit of "
                f"{units.seconds(self.limit)}"
            )
        shortest = 2 * _FEWEST / capacity
        if shortest > self.seconds:
            raise TargetError(
                f"too slow for the time given: {_FEWEST} queries take {units.seconds(shortest)}; about --seconds "
                f"{units.one_digit(PROBES * shortest)} would be enough"
            )

    def _probe(self, rate: float) -> bool:
        """Serve queries at a rate and keep their latencies if the p99 is within the limit; return True if it is."""
        arrivals = self.arrivals(rate, max(_FEWEST, int(rate * self.seconds / PROBES)))
        latencies = self.serve(rate, arrivals)
        self.spent += arrivals[-1]
        p99 = float(np.quantile(latencies, QUANTILE))
        self.probes.append(Probe(rate, p99, p99 <= self.limit))
        if p99 <= self.limit:
            self.latencies = latencies
        return p99 <= self.limit

    def _time_is_up(self) -> bool:
        """Return True if the time is spent and a rate was held, or enough halvings have failed."""
        return self.spent >= self.seconds and (self.held is not None or len(self.probes) >= _HALVINGS)
