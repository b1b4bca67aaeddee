"""A session in a child process: what it answers, how it fails, that it ends."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from optkit.errors import TargetError, UsageError, WorkerError
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.measurement.worker import Worker
from optkit.targets.fake.target import Fake

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("logits", "float32", ("batch", 3)),))
FEED = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


def fake(**options):
    model = Model(Path("model.onnx"), "onnx", "sha256:0", SIGNATURE)
    return Candidate("model.onnx", model, "fake", Fake().default_options() | options)


def child_of(worker):
    return worker._process


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_soon(pid):
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_a_worker_runs_feeds_and_tells_about_its_session():
    with Worker(fake()) as worker:
        assert worker.signature == SIGNATURE
        assert worker.facts["precision"] == "f32"
        assert worker.run(FEED)["logits"].shape == (2, 3)
        assert worker.peak_memory_bytes() == 50_000_000


def test_times_are_those_of_the_sessions_clock():
    with Worker(fake(seconds=0.25)) as worker:
        worker.load([FEED])
        assert worker.time(3) == pytest.approx([0.25] * 3)


def test_a_refused_operator_reaches_the_parent_as_it_was_raised():
    with pytest.raises(TargetError, match="Mystery"):
        Worker(fake(fault="refuse"))


def test_an_error_while_running_leaves_the_worker_usable():
    with Worker(fake(fault="run")) as worker:
        for _ in range(2):
            with pytest.raises(TargetError, match="bad shape"):
                worker.run(FEED)


def test_hints_survive_the_way_between_processes(tmp_path):
    model = Model(tmp_path / "model.onnx", "onnx", "sha256:0", None)
    with pytest.raises(UsageError) as caught:
        Worker(Candidate("model.onnx", model, "fake", Fake().default_options()))
    assert caught.value.hint == "give them with --input"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("crash", r"^crashed \(SIGSEGV\)"), ("out of memory", r"^killed \(SIGKILL\), likely out of memory")],
)
def test_a_dead_child_is_an_error_with_its_signal(fault, reason):
    with Worker(fake(fault=fault)) as worker, pytest.raises(WorkerError, match=reason):
        worker.run(FEED)


def test_a_hung_child_is_killed_when_its_time_is_up():
    worker = Worker(fake(fault="hang"))
    worker._time_limit = 0.2  # opening the session may take longer
    with pytest.raises(WorkerError, match=r"no answer to 'run' within 0.2 s"):
        worker.run(FEED)
    assert not alive(child_of(worker).pid)


def test_closing_a_worker_ends_its_child():
    with Worker(fake()) as worker:
        pid = child_of(worker).pid
        assert alive(pid)
    assert not alive(pid)


def test_an_error_in_the_parent_ends_the_child():
    worker = Worker(fake(fault="hang"))
    worker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not alive(child_of(worker).pid)


PARENT = """
    import signal, sys, numpy as np
    from pathlib import Path
    from optkit.formats.model import Model
    from optkit.targets.fake.target import Fake
    from optkit.formats.tensors import Signature, TensorSpec
    from optkit.measurement.candidate import Candidate
    from optkit.measurement.worker import Worker

    signature = Signature((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
    model = Model(Path("m.onnx"), "onnx", "", signature)
    with Worker(Candidate("m", model, "fake", Fake().default_options() | {"fault": "hang"})) as worker:
        print(worker._process.pid, flush=True)
        worker.run({"x": np.zeros(1, np.float32)})
"""


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGINT"])
def test_no_child_outlives_its_parent_even_while_busy(signal_name):
    import signal

    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        os.kill(parent.pid, signal.Signals[signal_name])
        parent.wait(20)
    assert gone_soon(pid)


def test_what_a_child_prints_does_not_reach_the_parents_output(capfd):
    with Worker(fake(fault="crash")) as worker, pytest.raises(WorkerError):
        worker.run(FEED)
    assert capfd.readouterr() == ("", "")


def test_a_target_after_the_at_sign_must_exist():
    with pytest.raises(UsageError, match=r"model.onnx@onnxruntine: unknown target 'onnxruntine'") as caught:
        resolve_candidate("model.onnx@onnxruntine")
    assert "did you mean 'onnxruntime'?" in caught.value.hint


def test_a_candidate_from_a_model_gets_the_options_of_its_target():
    model = Model(Path("a/model.onnx"), "onnx", "sha256:0", SIGNATURE)
    found = resolve_candidate(model, target="fake", threads=3)
    assert (found.name, found.target, found.options["threads"]) == ("model.onnx", "fake", 3)


def test_a_bundles_options_hold_on_its_own_target_and_threads_override():
    model = Model(Path("model.onnx"), "onnx", "", SIGNATURE, target="fake", options={"seconds": 1.0, "threads": 8})
    assert resolve_candidate(model).options["seconds"] == 1.0
    assert resolve_candidate(model).options["threads"] == 8
    assert resolve_candidate(model, threads=2).options["threads"] == 2
    assert resolve_candidate(model, threads=2).options["seconds"] == 1.0


def test_a_round_may_begin_on_any_core_and_go_on_on_all(samples):
    with Worker(resolve_candidate(samples / "model.onnx", threads=1)) as opened:
        opened.load([{"x": np.zeros((1, 1, 28, 28), np.float32)}])
        before = os.sched_getaffinity(opened._process.pid)
        for core in (*before, 10_000):
            assert len(opened.time(2, core=core)) == 2
        assert os.sched_getaffinity(opened._process.pid) == before


def test_a_child_starts_without_what_only_its_parent_needs():
    """A comparison starts dozens of them."""
    imports = "import sys, optkit.measurement.child, optkit.targets.onnxruntime.target, optkit.targets.openvino.target"
    code = f"{imports}; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
