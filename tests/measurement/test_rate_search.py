"""The search for the highest rate, over servers that are functions."""

import numpy as np
import pytest

from optkit.errors import TargetError
from optkit.measurement.rate_search import BRACKET, RateSearch


def evenly(rate, count):
    return [(number + 1) / rate for number in range(count)]


def server(highest):
    """Answers within 10 ms up to a rate, and in a second above it."""
    return lambda rate, arrivals: [0.010 if rate <= highest else 1.0] * len(arrivals)


def search(serve, *, limit=0.05, seconds=600.0):
    return RateSearch(limit, seconds, evenly, serve)


@pytest.mark.parametrize("highest", [20.0, 58.0, 97.0])
def test_highest_rate_is_found_within_the_bracket(highest):
    found = search(server(highest))
    found.run(0.010, 100.0)
    assert found.held <= highest < found.refused <= BRACKET * found.held
    assert set(found.latencies) == {0.010}


def test_rate_is_refused_only_if_it_fails_twice():
    failed = set()

    def once_disturbed(rate, arrivals):
        first = rate not in failed
        failed.add(rate)
        return [1.0 if first else 0.010] * len(arrivals)

    found = search(once_disturbed)
    found.run(0.010, 100.0)
    assert found.refused == 100.0
    assert [probe.kept for probe in found.probes] == [False, True] * (len(found.probes) // 2)


def test_search_ends_when_the_time_is_up():
    found = search(server(58.0), seconds=20.0)
    found.run(0.010, 1000.0)
    rates = [probe.rate for probe in found.probes]
    assert found.spent == pytest.approx(sum(max(100, int(rate * 2)) / rate for rate in rates))
    assert found.spent < 1.5 * 20.0 or found.held is None


def test_queries_of_a_probe_take_a_tenth_of_the_time():
    counts = []
    found = search(lambda rate, arrivals: counts.append((rate, len(arrivals))) or [0.010] * len(arrivals))
    found.run(0.010, 100.0)
    assert all(count == max(100, int(60 * rate)) for rate, count in counts)


def test_p99_is_that_of_the_latencies():
    times = [0.010] * 980 + [0.040] * 20
    found = search(lambda rate, arrivals: list(np.resize(times, len(arrivals))))
    found.run(0.010, 100.0)
    assert found.probes[0].p99 == pytest.approx(0.040)


@pytest.mark.parametrize(
    ("single", "capacity", "seconds", "says"),
    [
        (0.060, 100.0, 600.0, "one inference without load takes 60.0 ms, more than the limit of 50.0 ms"),
        (0.010, 100.0, 1.0, "too slow for the time given: 100 queries take 2.00 s"),
        (0.010, 100.0, 600.0, "no rate that was tried keeps the p99 within 50.0 ms"),
    ],
)
def test_impossible_search_is_refused(single, capacity, seconds, says):
    with pytest.raises(TargetError, match=says):
        search(server(0.0), seconds=seconds).run(single, capacity)
