"""Quantiles, intervals and verdicts."""

import numpy as np
import pytest

from optkit.metrics import statistics
from optkit.records.record import Interval


def lognormal(count, spread, seed, median=0.01):
    return median * np.exp(spread * np.random.default_rng(seed).standard_normal(count))


def interval(low, high):
    return Interval(value=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(("level", "fewest"), [(0.90, 50), (0.95, 100), (0.99, 500)])
def test_a_quantile_needs_samples_beyond_it(level, fewest):
    assert statistics.enough_for(level) == fewest
    assert statistics.quantile(range(fewest), level) is not None
    assert statistics.quantile(range(fewest - 1), level) is None


def test_a_quantile_is_numpys():
    values = lognormal(1000, 0.3, 0)
    assert statistics.quantile(values, 0.9) == pytest.approx(np.quantile(values, 0.9))


def test_the_ratio_of_rounds_is_their_geometric_mean():
    ratio = statistics.paired_ratio([[2.0, 8.0], [4.0]], [[1.0, 1.0], [1.0]])
    assert ratio.value == pytest.approx(4.0)
    assert (ratio.low, ratio.high) == pytest.approx((4.0, 4.0))


def test_what_slows_a_whole_round_down_cancels():
    disturbance = np.array([[1.0, 5.0, 1.0], [9.0, 2.0, 1.0]])
    ratio = statistics.paired_ratio(2 * disturbance, disturbance)
    assert (ratio.low, ratio.high) == pytest.approx((2.0, 2.0))


def launches(count, seed, *, between=0.02, within=0.05, rounds=10):
    """Times of rounds that differ from launch to launch more than chance within a launch explains."""
    generator = np.random.default_rng(seed)
    return [lognormal(rounds, within, [seed, n]) * np.exp(between * generator.standard_normal()) for n in range(count)]


@pytest.mark.parametrize("count", [3, 8, 20])
def test_a_95_percent_interval_holds_the_truth_about_95_times_in_100_although_launches_differ(count):
    held = 0
    for seed in range(400):
        ratio = statistics.paired_ratio(launches(count, seed), launches(count, 10_000 + seed))
        held += ratio.low <= 1.0 <= ratio.high
    assert 0.92 <= held / 400 <= 0.98


def test_an_interval_of_one_value_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        statistics.mean_interval([1.0])


def test_quantiles_have_intervals_over_launches_and_none_of_too_few():
    (median, high) = statistics.clustered_quantiles(launches(12, 0, rounds=100), [0.5, 0.9])
    assert median.low < 0.01 < median.high
    assert median.high < high.value
    assert statistics.clustered_quantiles(launches(4, 0), [0.5]) is None


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.99, 1.01, "no difference"),
        (1.001, 1.02, "no difference"),
        (1.0, 1.0, "no difference"),
        (1.87, 1.96, "faster"),
        (1.031, 1.2, "faster"),
        (1.01, 1.2, "inconclusive"),
        (0.4, 0.5, "slower"),
        (0.9, 0.97, "slower"),
        (0.9, 0.999, "inconclusive"),
        (0.9, 1.1, "inconclusive"),
        (0.99, 1.04, "inconclusive"),
    ],
)
def test_the_verdict_follows_from_the_interval(low, high, says):
    assert statistics.verdict(interval(low, high)) == says


def test_a_histogram_counts_every_value_once_and_survives_an_outlier():
    values = [*lognormal(999, 0.05, 0), 100.0]
    edges, counts = statistics.histogram(values, bins=20)
    assert sum(counts) == 1000
    assert len(edges) == 21
    assert edges[-1] < 0.02


def test_a_histogram_of_equal_values_is_one_bin_full():
    _, counts = statistics.histogram([0.01] * 10, bins=4)
    assert sum(counts) == 10
