"""Load on sessions: on a clock that only goes on when a session works or waits, latencies follow from arrivals."""

import threading

import numpy as np
import pytest

from optkit.errors import TargetError
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import loadgen
from optkit.targets.fake.target import FakeSession
from optkit.targets.target import target

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))
FEED = {"x": np.zeros((1, 4), np.float32)}


def session(tmp_path, **options):
    fake = target("fake")
    model = Model(tmp_path / "model.onnx", "onnx", "sha256:0", SIGNATURE)
    return fake.open(model, fake.default_options() | options)


def test_each_inference_is_timed_on_its_own(tmp_path):
    assert loadgen.one_by_one(session(tmp_path, seconds=0.25), [FEED], 3) == pytest.approx([0.25] * 3)


def test_a_session_may_time_by_a_clock_of_its_own():
    class Device(FakeSession):
        def timed(self, feed):
            call = self.prepared(feed)
            return lambda: (call(), 0.001)[1]

    found = loadgen.one_by_one(Device(SIGNATURE, target("fake").default_options()), [FEED], 3)
    assert found == [0.001] * 3


def test_a_query_that_finds_the_session_busy_waits_and_its_waiting_counts(tmp_path):
    arrivals = [0.0, 0.004, 0.008, 0.5]
    found = loadgen.open_loop([session(tmp_path, seconds=0.010)], [FEED], arrivals)
    assert found == pytest.approx([0.010, 0.016, 0.022, 0.010])


def test_a_stall_is_felt_by_all_that_arrive_meanwhile_and_a_closed_loop_hides_it(tmp_path):
    stalled = {"seconds": 0.001, "stall": [100, 0.5]}
    arrivals = [0.005 * number for number in range(1000)]
    opened = loadgen.open_loop([session(tmp_path, **stalled)], [FEED], arrivals)
    closed = loadgen.one_by_one(session(tmp_path, **stalled), [FEED], 1000)
    assert np.quantile(opened, 0.99) > 0.4
    assert np.quantile(closed, 0.99) == pytest.approx(0.001)


def test_no_inference_of_a_closed_loop_is_lost_or_done_twice(tmp_path):
    first = session(tmp_path, seconds=0.010)
    sessions = [first, first.sibling(), first.sibling()]
    elapsed = loadgen.closed_loop(sessions, [FEED], 30)
    assert sum(each.clock() for each in sessions) == pytest.approx(0.300)
    assert elapsed == max(each.clock() for each in sessions)


def test_sessions_really_run_at_once():
    together = threading.Barrier(3, timeout=20)

    class Meeting(FakeSession):
        def prepared(self, feed):
            return together.wait  # returns only once all three have come

    sessions = [Meeting(SIGNATURE, target("fake").default_options()) for _ in range(3)]
    loadgen.closed_loop(sessions, [FEED], 3)
    assert not together.broken


@pytest.mark.parametrize("count", [1, 2])
def test_what_fails_in_a_session_is_raised_from_whichever_thread(tmp_path, count):
    first = session(tmp_path, fault="run")
    sessions = [first, *(first.sibling() for _ in range(count - 1))]
    with pytest.raises(TargetError, match="bad shape"):
        loadgen.closed_loop(sessions, [FEED], 4)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_sessions_of_real_runtimes_run_at_once(name, samples):
    from optkit.measurement import worker
    from optkit.measurement.candidate import resolve_candidate

    candidate = resolve_candidate(samples / "model.onnx", target=name, time_limit=60)
    feed = {"x": np.zeros((1, 1, 28, 28), np.float32)}
    with worker.Worker(candidate.in_parallel(sessions=2, threads=1)) as opened:
        opened.load([feed])
        assert opened.drain(20) > 0
        assert len(opened.serve([0.0, 0.001, 0.002])) == 3
        assert opened.facts["threads"] == (2 if name == "openvino" else 1)
