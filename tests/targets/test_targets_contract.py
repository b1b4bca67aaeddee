"""A runtime from outside the package, through every verb.

``outside/second.py`` stands for a third party: it is known by lines that are added to the tables, and by nothing else.
"""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit
from optkit.data.dataset import SOURCES
from optkit.errors import UsageError
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.measurement.worker import Worker
from optkit.quantization.quantizer import QUANTIZERS
from optkit.reports.report import REPORTS
from optkit.stages.stage import STAGES
from optkit.targets.table import TARGETS
from optkit.targets.target import target

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(7)
WEIGHTS = RANDOM.standard_normal((4, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_property_that_only_the_runtime_knows_is_handed_on_and_must_be_plain(name):
    assert target(name).checked({"something_new": 3}) == {"something_new": 3}
    with pytest.raises(UsageError, match="something_new should be a valid"):
        target(name).checked({"something_new": [3]})


@pytest.fixture
def second(tmp_path, monkeypatch):
    """A folder with a model and data, and ``second`` in the tables."""
    folder = Path(__file__).parents[1] / "outside"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setitem(TARGETS, "second", "second:Second")
    monkeypatch.setitem(QUANTIZERS, "second-static", "second_quantizers:static")
    monkeypatch.setitem(QUANTIZERS, "second-shorten", "second_quantizers:shorten")
    monkeypatch.setitem(STAGES, "polish", "second:Polish")
    monkeypatch.setitem(SOURCES, "rows", "second:Rows")
    monkeypatch.setitem(REPORTS, "words", "second:report")
    monkeypatch.chdir(tmp_path)
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 4), ("y", 3))
    )
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph([node], "graph", [x], [y], [numpy_helper.from_array(WEIGHTS, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), "model.onnx")
    inputs = RANDOM.standard_normal((400, 4)).astype(np.float32)
    np.savetxt("data.rows", np.hstack([inputs, (inputs @ WEIGHTS).argmax(1)[:, None]]))
    return tmp_path


def test_doctor_tries_it_and_passes_its_advice_on(second):
    found = optkit.doctor()
    assert ("second", None) in [(each.name, each.error) for each in found.targets]
    parts = {each.name: each.error for each in found.providers}
    assert (parts["SecondCore"], parts["SecondAccelerator"]) == (None, "is not plugged in")
    assert {"plug it in", f"{os.cpu_count()} cores for second"} <= {note.text for note in found.notes}
    assert "ml-dtypes" in {each.name for each in found.machine.libraries}


def test_inspect_opens_it(second):
    accepted = {each.target: each.accepted for each in optkit.inspect("model.onnx").targets}
    assert accepted["second"]
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    onnx.save(helper.make_model(helper.make_graph([node], "graph", [x], [y]), ir_version=10), "relu.onnx")
    (refused,) = optkit.inspect("relu.onnx", targets=["second"]).targets
    assert refused.reason == "second refuses relu.onnx: it knows MatMul alone"


def test_export_leaves_its_format_alone(second):
    optkit.export("model.onnx", "exported.onnx")
    assert resolve_candidate("exported.onnx@second").target == "second"


def test_quantize_takes_its_quantizer_and_measures_on_it(second):
    done = optkit.quantize("model.onnx", target="second", data="data.rows", metric="accuracy", seconds=0.5)
    assert done.output == "model-int8.onnx"
    assert (done.stage.engine, done.stage.method) == ("second", "int8 static")
    texts = [note.text for note in done.stage.notes]
    assert "static int8: second has integers with fixed ranges alone" in texts
    assert "200 samples seen by minmax" in texts
    after = done.comparison.rows[-1]
    assert after.speedup.value == pytest.approx(2.5)
    assert after.quality.value.value == pytest.approx(1.0, abs=0.1)
    half = optkit.quantize("model.onnx", target="second", precision="fp16", measure=False)
    assert half.stage.method == "fp16 shorten"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "second packs no int4"),
        ({"precision": "fp8"}, "second has no fp8 kernels"),
        ({"method": "dynamic"}, "int8 for second is static, not dynamic"),
        ({"method": "qat"}, "quantization-aware training"),
        ({"calibrate": "entropy", "calibration": "data.rows"}, "second cannot calibrate by entropy"),
        ({"smooth_quant": 0.5, "calibration": "data.rows"}, "second has no SmoothQuant"),
        ({"floats": "fp16"}, "fp16 beside int8 is for tensorrt, not for second"),
        ({"engine": "nncf"}, "nncf makes nothing for second"),
        ({}, "needs calibration data"),
    ],
)
def test_quantize_refuses_what_it_does_not_have(second, options, message):
    with pytest.raises(UsageError, match=message):
        optkit.quantize("model.onnx", target="second", **options)


def test_compile_writes_a_bundle_that_loads(second):
    done = optkit.compile("model.onnx", "bundle", target="second", threads=3, options={"turbo": True})
    assert "second compiles by copying" in [note.text for note in done.stage.notes]
    assert optkit.open("bundle").options == {"workers": 3, "turbo": True}
    ones = np.ones((2, 4), np.float32)
    with optkit.load("bundle") as session:
        np.testing.assert_allclose(session.run({"x": ones})["y"], ones @ WEIGHTS, rtol=1e-6)
    again = optkit.compile("bundle", "again", target="second", threads=2)
    assert optkit.open(again.output).options == {"workers": 2, "turbo": True}
    with pytest.raises(UsageError, match="second has no option 'turbbo'") as caught:
        optkit.compile("model.onnx", "other", target="second", options={"turbbo": True})
    assert "did you mean 'turbo'?" in caught.value.hint
    with pytest.raises(UsageError, match="shapes is for tensorrt, not for second"):
        optkit.compile("model.onnx", "other", target="second", shapes=["batch=1/2/3"])


def test_it_is_measured_in_a_child_process_and_warns_of_itself(second):
    evaluated = optkit.evaluate("model.onnx", data="data.rows", metric="accuracy", target="second")
    assert evaluated.row.quality.value.value == 1.0
    optkit.compile("model.onnx", "bundle", target="second", options={"turbo": True})
    found = optkit.compare("model.onnx@second", ["bundle"], data="data.rows", metric="accuracy", seconds=0.5)
    assert found.rows[1].speedup.value == pytest.approx(2.0)
    assert "turbo heats the room" in [note.text for note in found.notes]
    for scenario in ("single-stream", "offline"):
        assert optkit.benchmark(["bundle"], scenario=scenario, seconds=0.5, threads=1).rows[0].status == "ok"


def test_explain_takes_it_apart(second):
    optkit.quantize("model.onnx", "small.onnx", target="second", data="data.rows", measure=False)
    found = optkit.explain("model.onnx", "small.onnx", target="second", data="data.rows", seconds=0.5)
    assert found.speed.baseline.operators[0].kind == "MatMul"
    assert found.speed.comparison.rows[1].target == "second"


def test_optimize_searches_on_it(second):
    optkit.compile("model.onnx", "baseline", target="second")
    found = optkit.optimize(
        "baseline", "best", data="data.rows", metric="accuracy", targets=["second"], budget=100, seconds=0.5, threads=1
    )
    tried = {trial.row.title for trial in found.search.trials}
    assert "int8 on second" in tried
    assert any("turbo" in title for title in tried)
    assert optkit.open("best").target == "second"


def test_gate_judges_it(second):
    optkit.quantize("model.onnx", "small.onnx", target="second", data="data.rows", measure=False)
    found = optkit.gate(
        "small.onnx",
        baseline="model.onnx",
        target="second",
        data="data.rows",
        metric="accuracy",
        min_speedup=1.5,
        max_drop=0.2,
        seconds=0.5,
    )
    assert found.verdict == "pass"


def test_a_recipe_with_a_stage_and_a_report_from_outside(second):
    Path("recipe.yaml").write_text(
        "model: model.onnx\ndata: data.rows\nmetric: accuracy\ntargets: [second]\nbenchmark: {seconds: 0.5}\n"
        "stages: [{polish: {praise: splendid}}, quantize, {compile: {options: {turbo: true}}}]\n"
    )
    planned = optkit.plan("recipe.yaml").branches[0]
    assert [each.stage for each in planned.stages] == ["polish", "quantize", "compile"]
    done = optkit.run("recipe.yaml", output="run")
    assert done.branches[0].status == "ok"
    assert "called splendid" in [note.text for note in done.branches[0].stages[0].notes]
    assert optkit.report("run", format="words") == f"the choice is {done.chosen}"
    assert optkit.plan("recipe.yaml").branches[0].stages[2].cached


def test_options_are_checked_before_a_process_begins(second):
    model = optkit.open("model.onnx")
    with pytest.raises(UsageError, match="second's option workers should be a valid integer, not 'many'"):
        Worker(Candidate("model.onnx", model, "second", {"workers": "many"}))
