"""The contract of a session, over the table of targets: each that can run here gets a tiny model that it opens."""

import gc
import json
import weakref
from contextlib import nullcontext, suppress

import numpy as np
import onnx_files
import pytest
from onnx import helper

from optkit import lazy
from optkit.errors import MissingLibraryError, OptkitError, TargetError, UsageError
from optkit.formats import opening
from optkit.targets.table import TARGETS
from optkit.targets.target import target

FEED = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)}


@pytest.fixture(params=TARGETS)
def runtime(request):
    return target(request.param)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny model in each format that can be written without a runtime's own device."""
    folder = tmp_path_factory.mktemp("models")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Relu", ["product"], ["y"])]
    weights = {"w": np.ones((4, 3), np.float32)}
    shapes = {"x": ["batch", 4]}, {"y": ["batch", 3]}
    found = {"onnx": opening.open(onnx_files.save(folder / "model.onnx", nodes, *shapes, weights))}
    if lazy.available("torch"):
        import torch

        class Net(torch.nn.Module):
            def forward(self, x):
                return {"y": torch.relu(x @ torch.ones(4, 3))}

        torch.export.save(torch.export.export(Net(), (torch.from_numpy(FEED["x"]),)), folder / "model.pt2")
        found["exported-program"] = opening.open(folder / "model.pt2")
    return found


@pytest.fixture
def model(runtime, models):
    """A model that the target takes; skips where it cannot run, which it says in one line."""
    fitting = [model for format, model in models.items() if format in runtime.formats]
    try:
        runtime.version()
        absence = runtime.absence()
    except MissingLibraryError as error:
        absence = error.message
    if absence is not None:
        assert absence.strip()
        assert "\n" not in absence
        pytest.skip(f"{runtime.name}: {absence}")
    assert fitting, f"give this test a model in one of the formats {runtime.formats}"
    return fitting[0]


def test_a_session_gives_the_signatures_outputs_and_frees_its_memory(runtime, model):
    with runtime.open(model, runtime.default_options(threads=1)) as session:
        found, again = session.run(FEED), session.sibling().run(FEED)
        assert [spec.name for spec in session.signature.inputs] == ["x"]
        assert [(name, value.shape, value.dtype) for name, value in found.items()] == [("y", (2, 3), np.float32)]
        assert [spec.name for spec in session.signature.outputs] in ([], ["y"])  # an exported program tells none
        np.testing.assert_array_equal(*(next(iter(each.values())) for each in (found, again)))
        assert session.timed(FEED)() > 0
        session.prepared(FEED)()
        facts = session.facts()
        assert json.loads(json.dumps(facts)) == facts
        assert (session.peak_memory_bytes() or 1) > 0
    session.close()
    freed = weakref.ref(session)
    del session
    gc.collect()
    assert freed() is None


def test_a_feed_that_does_not_fit_is_an_error_of_the_target(runtime, model):
    with runtime.open(model, runtime.default_options(threads=1)) as session, suppress(TargetError):
        session.run({"x": np.ones((2, 5), np.float32)})


def test_it_compiles_below_the_workdir_or_refuses(runtime, model, tmp_path):
    before, options = [path.read_bytes() for path in model.files], runtime.default_options(threads=1)
    if not runtime.deploys:
        with pytest.raises(TargetError) as caught:
            runtime.compile(model, options, tmp_path)
        assert caught.value.hint
        return
    compiled = runtime.compile(model, options, tmp_path)
    assert compiled.path.is_relative_to(tmp_path)
    assert compiled.format in runtime.formats
    assert runtime.checked(compiled.options) == compiled.options
    assert [path.read_bytes() for path in model.files] == before
    results = []
    for each in (model, opening.open(compiled.path)):
        with runtime.open(each, compiled.options) as session:
            results.append(session.run(FEED)["y"])
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_it_tells_its_operators_or_that_it_cannot(runtime, model):
    refusing = nullcontext() if runtime.tells_operators else pytest.raises(UsageError, match="does not tell")
    with refusing:
        found = runtime.profile(model, runtime.default_options(threads=1), [FEED], 0.05)
        assert found.operators
        assert all(each.seconds >= 0 for each in found.operators)


def test_a_file_that_is_broken_between_two_looks_is_an_error_of_ours(runtime, model, tmp_path):
    copy = tmp_path / model.path.name
    copy.write_bytes(model.path.read_bytes())
    opened = opening.open(copy)
    copy.write_bytes(b"nothing")
    with suppress(OptkitError):
        runtime.open(opened, runtime.default_options(threads=1)).close()
