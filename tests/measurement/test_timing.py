"""The harness: with a clock that tells the truth, its answers must be true."""

from pathlib import Path

import numpy as np
import pytest

from optkit.errors import TargetError
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import timing
from optkit.measurement.candidate import Candidate
from optkit.measurement.timing import Task
from optkit.targets.fake.target import Fake

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))
FEEDS = [{"x": np.zeros((1, 4), np.float32)}]


def fake(name="model", **options):
    model = Model(Path("model.onnx"), "onnx", "sha256:0", SIGNATURE)
    return Candidate(name, model, "fake", Fake().default_options() | options)


def measured(candidates, feeds=FEEDS, **options):
    """The timings of candidates on the same feeds."""
    return timing.measure([Task(each, feeds) for each in candidates], **options).timings


def test_a_model_twice_as_fast_is_found_twice_as_fast():
    _, found = measured([fake(seconds=0.02, noise=0.1), fake(seconds=0.01, noise=0.1, seed=1)])
    assert found.verdict == "faster"
    assert found.speedup.value == pytest.approx(2.0, rel=0.05)
    assert found.speedup.high - found.speedup.low < 0.2


def test_a_model_compared_with_itself_shows_no_difference():
    verdicts = [
        measured([fake(noise=0.05, seed=seed), fake(noise=0.05, seed=100 + seed)], seed=seed)[1].verdict
        for seed in range(4)  # benchmarks/same_model.py does it often enough for a rate
    ]
    assert set(verdicts) == {"no difference"}


def test_too_little_time_for_much_noise_shows_no_equality():
    found = [
        measured([fake(noise=0.5, seed=seed), fake(noise=0.5, seed=10 + seed)], seconds=0.2)[1] for seed in range(5)
    ]
    assert "no difference" not in [each.verdict for each in found]
    widths = sorted(each.speedup.high / each.speedup.low for each in found)
    assert widths[2] > 1.1  # two launches that agree by chance look precise now and then


def test_a_slower_model_is_found_slower():
    _, found = measured([fake(seconds=0.01), fake(seconds=0.03)], seconds=1)
    assert found.verdict == "slower"
    assert found.speedup.value == pytest.approx(1 / 3)


def test_measuring_stops_early_when_the_interval_is_tight_enough():
    slow = {"seconds": 0.1}  # seconds of its own clock: few launches fill the time, and their opening hardly counts
    quiet = measured([fake(**slow), fake(**slow)], seconds=90)
    noisy = measured([fake(noise=0.3, **slow), fake(noise=0.3, seed=1, **slow)], seconds=90)
    assert quiet[0].latency.count < noisy[0].latency.count


def test_percentiles_without_support_are_none():
    (found,) = measured([fake(seconds=0.1)], seconds=8)
    for name, fewest in (("p90", 50), ("p95", 100), ("p99", 500)):
        assert (getattr(found.latency, name) is not None) == (found.latency.count >= fewest)
    assert found.latency.p99 is None


def test_a_failed_candidate_is_a_row_with_a_reason_and_the_others_go_on():
    found = measured(
        [fake(), fake("crash", fault="crash"), fake("refuse", fault="refuse"), fake("run", fault="run"), fake("good")],
        seconds=0.5,
    )
    reasons = [timing.reason for timing in found]
    assert reasons[0] is None
    assert reasons[1].startswith("crashed (SIGSEGV)")
    assert "Mystery" in reasons[2]
    assert "bad shape" in reasons[3]
    assert reasons[4] is None
    assert found[4].verdict == "no difference"
    assert found[1].latency is None


def test_a_feed_that_does_not_fit_a_candidate_is_its_reason():
    fixed = Signature((TensorSpec("x", "float32", (8, 4)),), SIGNATURE.outputs)
    other = Candidate("fixed", Model(Path("m.onnx"), "onnx", "", fixed), "fake", Fake().default_options())
    _, found = measured([fake(), other], seconds=0.5)
    assert "size 1 at axis 0, not 8" in found.reason


def test_without_a_baseline_there_is_no_measurement():
    with pytest.raises(TargetError, match="Mystery"):
        measured([fake(fault="refuse"), fake()])


def test_feeds_of_several_sizes_are_all_gone_through_in_a_round():
    feeds = [{"x": np.zeros((size, 4), np.float32)} for size in (1, 2, 3)]
    found = measured([fake(seconds=0.03), fake(seconds=0.01)], feeds, seconds=3)
    assert all(timing.latency.count % 3 == 0 for timing in found)


def test_slow_models_are_timed_on_fewer_feeds_rather_than_for_ever():
    feeds = [{"x": np.zeros((size, 4), np.float32)} for size in (1, 2, 3, 4)]
    found = timing.measure([Task(fake(seconds=0.5), feeds)], seconds=6)
    assert found.timings[0].latency.count == found.rounds
