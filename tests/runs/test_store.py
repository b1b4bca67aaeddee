"""The store of finished stages: what it keeps, what counts as absent, and how it outlives a kill."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.data.dataset import open_dataset
from optkit.errors import OutputError, StageError
from optkit.formats import opening
from optkit.notes import Note
from optkit.runs import execution, store
from optkit.runs.pipeline import step
from optkit.runs.store import Store
from optkit.stages.stage import Context, Outcome, Stage


def net(path, scale=1.0):
    """A linear model whose weights are all ``scale``."""
    weights = np.full((4, 3), scale, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return opening.open(path)


class Scale(Stage):
    """Multiplies the weights and counts how often it did."""

    name: ClassVar[str] = "scale"
    done: ClassVar[list[float]] = []

    factor: float = 2.0
    litter: bool = False

    def apply(self, model, context):
        self.done.append(self.factor)
        result = net(context.workdir / "model.onnx", self.factor)
        if self.litter:
            (context.workdir / "deep").mkdir()
            (context.workdir / "deep" / "scratch.bin").write_bytes(b"x")
        return Outcome(
            replace(result, target="fake", options={"a": 1}), (Note("scaled", "w"),), "numpy", "multiply", 0.1, {"n": 1}
        )


class HandOn(Stage):
    """Finds nothing to do."""

    name: ClassVar[str] = "hand-on"

    def apply(self, model, context):
        return Outcome(model)


class Fail(Stage):
    """Leaves something half-written and fails."""

    name: ClassVar[str] = "fail"

    def apply(self, model, context):
        (context.workdir / "model.onnx").write_bytes(b"half")
        raise StageError("no")


@pytest.fixture
def source(tmp_path):
    return net(tmp_path / "source.onnx")


@pytest.fixture
def kept(tmp_path):
    """A store in use."""
    Scale.done.clear()
    found = Store(tmp_path / "store")
    with found.using():
        yield found


CONTEXT = Context(Path("nowhere"), target="onnxruntime")


def test_a_stage_is_carried_out_once(kept, source):
    first, second = step(Scale(), source, CONTEXT, kept), step(Scale(), source, CONTEXT, kept)
    assert Scale.done == [2.0]
    assert (first.record.cached, second.record.cached) == (False, True)
    assert second.model == first.model
    assert second.record == first.record.model_copy(update={"cached": True})


def test_an_entry_holds_all_that_the_stage_said(kept, source):
    entry = step(Scale(), source, CONTEXT, kept)
    assert entry.model.path.parent == entry.folder
    assert (entry.model.target, entry.model.options) == ("fake", {"a": 1})
    assert entry.model.signature == source.signature
    assert opening.open(entry.model.path).digest == entry.model.digest
    record = entry.record
    assert (record.engine, record.method, record.engine_seconds, record.facts) == ("numpy", "multiply", 0.1, {"n": 1})
    assert [note.text for note in record.notes] == ["scaled"]
    assert record.source.path == str(source.path)
    assert record.result.path == str(entry.model.path)


def test_an_entry_tells_the_source_of_this_run_not_of_the_first(kept, source, tmp_path):
    step(Scale(), source, CONTEXT, kept)
    moved = opening.open(shutil.copy(source.path, tmp_path / "moved.onnx"))
    again = step(Scale(), moved, CONTEXT, kept)
    assert again.record.cached
    assert again.record.source.path == str(moved.path)


def test_a_model_handed_on_is_copied_in(kept, source):
    entry = step(HandOn(), source, CONTEXT, kept)
    assert entry.model.path != source.path
    assert entry.model.digest == source.digest
    assert source.path.is_file()


def test_only_the_model_is_kept_of_what_a_stage_left(kept, source):
    entry = step(Scale(litter=True), source, CONTEXT, kept)
    assert sorted(path.name for path in entry.folder.rglob("*")) == ["model.onnx", "record.json"]


def test_a_failed_stage_leaves_nothing(kept, source):
    with pytest.raises(StageError):
        step(Fail(), source, CONTEXT, kept)
    assert kept.listing() == []
    assert list((kept.root / "tmp").iterdir()) == []


class TestTheKey:
    def key(self, source, stage=None, **context):
        return store.key(stage or Scale(), source, replace(CONTEXT, **context))

    def test_is_the_same_for_the_same(self, source):
        assert self.key(source) == self.key(source)

    def test_depends_on_fields_source_seed_and_target(self, source, tmp_path):
        keys = {
            self.key(source),
            self.key(source, Scale(factor=3)),
            self.key(source, HandOn()),
            self.key(net(tmp_path / "other.onnx", 5.0)),
            self.key(replace(source, options={"a": 2})),
            self.key(replace(source, signature=None)),
            self.key(source, seed=1),
            self.key(source, target="openvino"),
        }
        assert len(keys) == 8

    def test_leaves_out_where_the_model_lies_and_what_only_evaluates(self, source, tmp_path):
        moved = opening.open(shutil.copy(source.path, tmp_path / "moved.onnx"))
        np.savez(tmp_path / "data.npz", x=np.zeros((5, 4), np.float32))
        data = open_dataset(tmp_path / "data.npz")
        assert self.key(moved) == self.key(source)
        assert self.key(source, evaluation=data, workdir=tmp_path) == self.key(source)
        assert self.key(source, calibration=data) == self.key(source)

    def test_depends_on_the_calibration_data_of_a_stage_that_needs_it(self, source, tmp_path):
        np.savez(tmp_path / "data.npz", x=np.zeros((5, 4), np.float32))
        data = open_dataset(tmp_path / "data.npz")

        class Calibrated(Scale):
            needs_calibration: ClassVar[bool] = True

        keys = {self.key(source, Calibrated(), calibration=each) for each in (None, data, data.take(3))}
        assert len(keys) == 3

    def test_is_shared_by_targets_where_the_stage_does_not_care(self, source):
        class Shared(Scale):
            needs_target: ClassVar[bool] = False

        assert self.key(source, Shared()) == self.key(source, Shared(), target="openvino")


class TestWhatIsCorruptIsAbsent:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / "record.json").unlink(),
            lambda folder: (folder / "record.json").write_text("{"),
            lambda folder: (folder / "record.json").write_text("{}"),
            lambda folder: (folder / "model.onnx").unlink(),
            lambda folder: (folder / "model.onnx").write_bytes(b""),
            lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"!"),
        ],
    )
    def test_and_made_again(self, kept, source, damage):
        first = step(Scale(), source, CONTEXT, kept)
        damage(first.folder)
        assert kept.get(first.key, source) is None
        again = step(Scale(), source, CONTEXT, kept)
        assert not again.record.cached
        assert again.model.digest == first.model.digest
        assert kept.get(first.key, source) is not None
        assert list((kept.root / "tmp").iterdir()) == []

    def test_and_listed_as_unreadable(self, kept, source):
        entry = step(Scale(), source, CONTEXT, kept)
        (entry.folder / "record.json").write_text("?")
        assert [(listed.key, listed.stage) for listed in kept.listing()] == [(entry.key, None)]


def test_the_faster_of_two_runs_wins(kept, source):
    key = store.key(Scale(), source, CONTEXT)
    with kept.workdir() as slow:
        outcome, record = execution.carry_out(Scale(), source, replace(CONTEXT, workdir=slow), key=key)
        fast = step(Scale(), source, CONTEXT, kept)
        inode = (fast.folder / "model.onnx").stat().st_ino
        entry = kept.put(record, outcome, slow, source)
    assert entry.folder == fast.folder
    assert (entry.folder / "model.onnx").stat().st_ino == inode
    assert list((kept.root / "tmp").iterdir()) == []


class TestPruning:
    @pytest.fixture
    def three(self, tmp_path, source):
        """A store with three entries, unused for 0, 10 and 20 days."""
        found = Store(tmp_path / "store")
        with found.using():
            for number in range(3):
                entry = step(Scale(factor=number), source, CONTEXT, found)
                then = time.time() - number * 10 * 86400
                os.utime(entry.folder, (then, then))
        return found

    def test_lists_the_last_used_first(self, three):
        used = [entry.used for entry in three.listing()]
        assert used == sorted(used, reverse=True)

    def test_removes_what_was_not_used_for_long(self, three):
        assert len(three.prune(older_than_days=15)) == 1
        assert len(three.listing()) == 2

    def test_removes_the_longest_unused_until_the_rest_fits(self, three):
        newest = three.listing()[0]
        assert len(three.prune(max_bytes=newest.size_bytes)) == 2
        assert [entry.key for entry in three.listing()] == [newest.key]

    def test_removes_everything(self, three):
        assert len(three.prune(everything=True)) == 3
        assert three.listing() == []
        assert list((three.root / "tmp").iterdir()) == []

    def test_waits_for_nobody_who_uses_the_store(self, three):
        with three.using(), pytest.raises(OutputError, match="a run is using the cache"):
            three.prune(everything=True)

    def test_serving_an_entry_counts_as_use(self, three, source):
        oldest = three.listing()[-1]
        with three.using():
            three.get(oldest.key, source)
        assert three.listing()[0].key == oldest.key


def test_pruning_clears_checkpoints_that_nobody_took_up(tmp_path):
    kept = Store(tmp_path)
    for name, days in (("old", 20), ("new", 0)):
        file = kept.checkpoints(name) / "training" / "checkpoint.pt"
        file.parent.mkdir(parents=True)
        file.touch()
        for path in (file, file.parent):
            os.utime(path, (time.time() - days * 86400,) * 2)
    kept.prune(older_than_days=15)
    assert not kept.checkpoints("old").exists()
    assert kept.checkpoints("new").exists()
    kept.prune(everything=True)
    assert not kept.checkpoints("new").exists()


def test_a_store_that_is_not_there_is_empty(tmp_path):
    assert Store(tmp_path / "none").listing() == []
    assert Store(tmp_path / "none").prune(everything=True) == []


def test_the_environment_names_the_store(monkeypatch, tmp_path):
    monkeypatch.setenv("OPTKIT_CACHE", str(tmp_path / "own"))
    assert Store().root == tmp_path / "own"
    monkeypatch.delenv("OPTKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store().root == tmp_path / "optkit"


KILLED = """
import sys, time
from pathlib import Path
from optkit.runs.store import Store
store = Store(Path(sys.argv[1]))
with store.using(), store.workdir() as folder:
    (folder / "model.onnx").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


def test_leftovers_of_the_killed_are_cleared_once_the_store_is_idle(tmp_path, source):
    found = Store(tmp_path / "store")
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(found.root)], stdout=subprocess.PIPE, text=True
    )
    with child:
        child.stdout.readline()
        with found.using():
            assert len(list((found.root / "tmp").iterdir())) == 1, "it is alive: hands off"
        child.send_signal(signal.SIGKILL)
    with found.using():
        assert list((found.root / "tmp").iterdir()) == []
