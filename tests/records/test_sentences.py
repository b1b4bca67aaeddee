"""Sentences on a comparison, with figures that are there and with figures that are null."""

import pytest

from optkit.records import sentences
from optkit.records.comparison import Comparison, LatencyRecord, LoadRecord, QualityRecord, Row
from optkit.records.model import ModelRecord
from optkit.records.record import Interval

BASELINE = Row(name="float", target="fake", baseline=True)


def interval(value, margin=0.05):
    return Interval(value=value, low=value - margin, high=value + margin)


def row(**figures):
    return Row(**{"name": "int8", "target": "fake"} | figures)


def model(size):
    return ModelRecord(path="m.onnx", format="onnx", digest="0" * 64, size_bytes=size)


def comparison(rows, **figures):
    """A comparison on a machine that no sentence tells of."""
    return Comparison.model_construct(rows=rows, batch=1, rounds=1, max_drop=None, **figures)


def quality(loss=None, **figures):
    given = {"metric": "accuracy", "value": interval(0.9), "count": 100, "higher_is_better": True, "needs_labels": True}
    return QualityRecord(**given | {"loss": loss} | figures)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (row(), "-"),
        (BASELINE, "baseline"),
        (row(status="failed", reason="crashed"), "failed"),
        (row(speedup=interval(2.0)), "-"),
        (row(speedup=interval(2.0), speed_verdict="faster"), "2.00x faster (95 %: 1.95 to 2.05)"),
        (row(speedup=interval(0.5), speed_verdict="slower"), "2.00x slower (95 %: 1.82 to 2.22)"),
        (row(speedup=interval(1.0), speed_verdict="no difference"), "no difference (95 %: 0.95 to 1.05)"),
    ],
)
def test_speed(given, text):
    assert sentences.speed(given) == text


@pytest.mark.parametrize(
    ("given", "max_drop", "text"),
    [
        (row(), 0.1, ""),
        (row(quality=quality()), 0.1, ""),
        (row(quality=quality(interval(0.2))), None, "accuracy 0.9000, loss 0.2000 (0.1500 to 0.2500)"),
        (row(quality=quality(interval(0.2))), 0.1, "loss 0.2000 (0.1500 to 0.2500): beyond --max-drop 0.1"),
        (row(quality=quality(interval(0.08))), 0.1, "within --max-drop 0.1, though the interval reaches beyond it"),
        (row(quality=quality(interval(0.01))), 0.1, ": within --max-drop 0.1"),
    ],
)
def test_lost(given, max_drop, text):
    found = sentences.lost(given, max_drop)
    assert found.endswith(text)
    assert bool(found) == bool(text)


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({}, ""),
        ({"detectable": 0.01}, "losses from 0.0100 on would show"),
        ({"p_value": 0.4}, "McNemar p = 0.400, too few samples to show any loss"),
        ({"p_value": 0.4, "detectable": 0.01}, "McNemar p = 0.400, losses from 0.0100 on would show"),
    ],
)
def test_evidence(figures, text):
    assert sentences.evidence(quality(**figures)) == text


def test_a_verdict_leaves_out_figures_that_are_null():
    latency = LatencyRecord(count=1, mean=1, median=1, p90=1, p95=1, p99=1, histogram_edges=[], histogram_counts=[])
    rows = [
        BASELINE.model_copy(update={"model": model(100)}),
        row(model=model(25), latency=latency, speedup=interval(2.0), speed_verdict="faster"),
        row(model=model(100)),
        row(status="failed", reason="crashed"),
    ]
    compared = comparison(rows)
    assert [sentences.verdict(each, compared) for each in rows[1:]] == [
        "int8 on fake: 2.00x faster (95 %: 1.95 to 2.05), 25.0 % of the size",
        "int8 on fake",
        "int8 on fake failed: crashed",
    ]


def test_a_load_without_figures():
    offline, server = (comparison([BASELINE], scenario=name) for name in ("offline", "server"))
    load = LoadRecord(sessions=2, threads=1)
    assert sentences.load(row(load=load, batch=4), offline) == "int8 on fake: - with batch 4, 2 sessions of 1 thread, -"
    assert sentences.load(row(reason="crashed"), offline) == "int8 on fake failed: crashed"
    assert sentences.load(row(load=load), server) == "int8 on fake: p99 - at -"


def test_a_cause_names_its_foremost_layers():
    assert sentences.cause("saturation", []) == "saturation"
    assert sentences.cause("saturation", ["a", "b"]) == "saturation; above all a, b"
