"""The scenarios of ``benchmark``, on a target whose times are known, and what users get wrong about them."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.cli.tables.comparison import benchmark_blocks
from optkit.errors import UsageError
from optkit.metrics import statistics
from optkit.records.comparison import Comparison
from optkit.verbs.benchmark import benchmark


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model of any batch, one of batch 4, and 20 samples."""
    for name, batch in (("model.onnx", "batch"), ("four.onnx", 4)):
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 16])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
            [numpy_helper.from_array(np.ones((16, 5), np.float32), "w")],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / name)
    np.savez(tmp_path / "data.npz", x=np.zeros((20, 16), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text(comparison):
    return " ".join(str(getattr(block, "rows", getattr(block, "text", ""))) for block in benchmark_blocks(comparison))


class TestOffline:
    def test_batches_grow_as_long_as_it_pays(self, here):
        found = benchmark("model.onnx@fake", scenario="offline", sessions=1, threads=1, seconds=1)
        (row,) = found.rows
        assert row.batch == 512  # the fake target takes 10 ms whatever the batch
        assert row.throughput == pytest.approx(51_200)
        assert [trial.batch for trial in row.load.trials] == [2**power for power in range(10)]
        assert [trial.kept for trial in row.load.trials] == [False] * 9 + [True]
        assert Comparison.model_validate_json(found.to_json()) == found
        assert "51200/s with batch 512, 1 session of 1 thread" in text(found)

    def test_batches_end_with_the_data(self, here):
        (row,) = benchmark("model.onnx@fake", scenario="offline", sessions=1, data="data.npz", seconds=1).rows
        assert [trial.batch for trial in row.load.trials] == [1, 2, 4, 8, 16]

    def test_a_fixed_batch_is_the_only_one_tried(self, here):
        (row,) = benchmark("four.onnx@fake", scenario="offline", sessions=1, seconds=1).rows
        assert {trial.batch for trial in row.load.trials} == {4}

    def test_whole_feeds_are_run_as_they_are(self, here):
        (here / "feeds").mkdir()
        for number, size in enumerate((1, 2, 3)):
            np.savez(here / "feeds" / f"{number}.npz", x=np.zeros((size, 16), np.float32))
        found = benchmark("model.onnx@fake", scenario="offline", sessions=1, data="feeds", seconds=1)
        assert [trial.batch for trial in found.rows[0].load.trials] == [1]
        found = benchmark("model.onnx@fake", batch=8, data="feeds", seconds=1)
        assert "--batch 8 does nothing" in found.notes[0].text

    def test_only_the_batches_asked_for_are_tried(self, here):
        (row,) = benchmark("model.onnx@fake", scenario="offline", batch=[3, 5], sessions=1, seconds=1).rows
        assert [trial.batch for trial in row.load.trials] == [3, 5]

    def test_real_models_are_compared_each_as_it_does_best(self, here):
        first, second = benchmark(["model.onnx", "model.onnx"], scenario="offline", batch=[1, 8], seconds=0.5).rows
        assert first.batch == second.batch == 8
        assert first.throughput_interval.low < first.throughput < first.throughput_interval.high
        assert second.speedup.low < second.speedup.value < second.speedup.high
        assert first.latency is None


class TestServer:
    def test_finds_the_highest_rate_that_keeps_the_limit(self, here):
        found = benchmark("model.onnx@fake", scenario="server", max_p99=0.05, sessions=1, threads=1, seconds=600)
        (row,) = found.rows
        # One session that takes 10 ms stands less than 100 queries a second; of a queue with random arrivals and
        # constant service (M/D/1), the p99 reaches 50 ms at about 58 a second.
        assert 54 < row.load.rate < 62
        assert row.load.rate < row.load.refused_rate <= 100
        assert row.latency.p99 <= 0.05
        assert row.latency.p99_interval is not None
        assert "within a p99 of 50.0 ms" in text(found)

    def test_measures_at_the_rate_asked_for(self, here):
        (row,) = benchmark("model.onnx@fake", scenario="server", rate=20, sessions=1, seconds=60).rows
        assert row.load.rate == 20
        assert row.latency.count == 1200
        assert row.latency.median == pytest.approx(0.010, rel=0.1)

    @pytest.mark.parametrize(
        ("options", "seconds", "says"),
        [
            ({"max_p99": 0.001}, 60, "one inference without load takes 10.0 ms, more than the limit of 1.00 ms"),
            ({"max_p99": 0.0101}, 60, "no rate that was tried keeps the p99 within 10.1 ms"),
            (
                {"max_p99": 0.05},
                1,
                "too slow for the time given: 100 queries take 2.00 s; about --seconds 20 would be enough",
            ),
            ({"rate": 1000}, 60, "1000/s is more than the model's capacity of 100/s: the queue only grows"),
        ],
    )
    def test_what_cannot_be_served_is_a_row_with_a_reason(self, here, options, seconds, says):
        (row,) = benchmark("model.onnx@fake", scenario="server", sessions=1, seconds=seconds, **options).rows
        assert (row.status, row.reason) == ("failed", says)

    def test_every_model_meets_the_same_arrivals(self, here):
        first, second = benchmark(
            ["model.onnx@fake", "model.onnx@fake"], scenario="server", max_p99=0.05, sessions=1, seconds=30
        ).rows
        assert first.load == second.load

    def test_of_real_sessions_at_once(self, here):
        found = benchmark("model.onnx", scenario="server", rate=300, sessions=2, threads=1, seconds=1)
        (row,) = found.rows
        (caution,) = [note.text for note in found.notes if note.kind == "spread"]
        assert caution == "a p99 needs 500 queries: about --seconds 2 would be enough"
        assert row.load.sessions == 2
        assert row.latency.count == 300
        assert row.latency.p99 is None


def test_what_is_true_of_every_batch_size_is_said_once(here):
    found = benchmark("model.onnx@fake", batch=[1, 8, 16], seconds=0.2)
    assert [note.kind for note in found.notes].count("made-up-inputs") == 1


@pytest.mark.parametrize(
    ("scenario", "options"),
    [("single-stream", {}), ("offline", {"sessions": 1}), ("server", {"rate": 5, "sessions": 1})],
)
def test_a_feed_that_does_not_fit_another_model_is_its_reason(scenario, options, here):
    proto = onnx.load(here / "model.onnx")
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "z"
    onnx.save(proto, here / "other.onnx")
    both = ["model.onnx", "other.onnx"]
    found = benchmark(both, scenario=scenario, data="data.npz", batch=1, threads=1, seconds=0.3, **options)
    assert [row.status for row in found.rows] == ["ok", "failed"]
    assert "no input 'x'" in found.rows[1].reason


def test_multi_stream_takes_eight_samples_together(here):
    found = benchmark("model.onnx@fake", scenario="multi-stream", seconds=1)
    assert (found.scenario, found.rows[0].batch) == ("multi-stream", 8)


def test_percentiles_have_intervals_once_there_are_launches_enough(here):
    (row,) = benchmark("model.onnx@fake", seconds=30, precision=1).rows
    for name in ("median", "p90", "p95", "p99"):
        interval = getattr(row.latency, f"{name}_interval")
        assert interval.low <= getattr(row.latency, name) <= interval.high


def test_the_record_holds_every_rounds_ratio_by_launch(here):
    found = benchmark(["model.onnx", "model.onnx"], threads=1, seconds=0.5)
    row = found.rows[1]
    assert len(row.ratios) == found.launches >= 2
    assert statistics.geometric_mean(row.ratios) == row.speedup


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scenario": "server"}, "needs a rate"),
        ({"scenario": "server", "rate": 1, "max_p99": 1}, "needs a rate to measure at, or a limit"),
        ({"scenario": "server", "rate": 1, "batch": [1, 8]}, "takes one batch size"),
        ({"rate": 5}, "--rate does nothing in the single-stream scenario"),
        ({"sessions": 2, "scenario": "multi-stream"}, "--sessions does nothing in the multi-stream scenario"),
        ({"max_p99": 1, "scenario": "offline"}, "--max-p99 does nothing in the offline scenario"),
    ],
)
def test_an_option_that_a_scenario_does_not_heed_is_refused(here, options, says):
    with pytest.raises(UsageError, match=says):
        benchmark("model.onnx", **options)


@pytest.mark.slow
def test_a_model_that_hangs_is_a_row_the_other_is_timed_and_the_command_ends_with_1(here, optkit):
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["forever", "true", "x"], ["y"], body=loop_body()),
        ],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [
            numpy_helper.from_array(np.array(2**62, np.int64), "forever"),
            numpy_helper.from_array(np.array(True), "true"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(proto, here / "endless.onnx")
    done = optkit(
        *(
            "benchmark",
            "model.onnx",
            "endless.onnx",
            "--seconds",
            "0.2",
            "--threads",
            "1",
            "--time-limit",
            "8",
            "--json",
        ),
        cwd=here,
    )
    first, second = json.loads(done.stdout)["rows"]
    assert done.returncode == 1
    assert (first["status"], second["status"]) == ("ok", "failed")
    assert second["reason"] == "hung: no answer to 'time' within 8 s"


def loop_body():
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Identity", ["value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
