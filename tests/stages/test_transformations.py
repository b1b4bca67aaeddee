"""Export, quantize and compile on the sample, as functions and as commands."""

import json
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx_files import save

import optkit
from optkit import lazy
from optkit.data.dataset import open_dataset
from optkit.errors import ModelError, OutputError, SignatureError, StageError, UsageError
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import count_operators
from optkit.formats.onnx.signature import read_signature
from optkit.options.verbs.quantize import Calibrate, QuantizeOptions
from optkit.quantization import qdq
from optkit.quantization.methods import onnxruntime_static
from optkit.quantization.quantizer import QUANTIZERS, Request, static_quantizer
from optkit.quantization.range_cache import RangeCache

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _accuracy(session, samples):
    data = np.load(samples / "evaluation.npz")
    x, labels = data["x"][:200], data["labels"][:200]
    return float((session.run({"x": x})[session.signature.outputs[0].name].argmax(1) == labels).mean())


@pytest.mark.parametrize("name", ["traced.pt", "program.pt2", "weights.pth"])
def test_every_torch_form_exports_with_its_dynamic_batch_and_computes_the_same(name, samples, tmp_path):
    extra = {}
    if name == "weights.pth":
        extra = {"code": f"{samples / 'net.py'}:build", "inputs": ("x:float32[batch,1,28,28]",)}
    done = optkit.export(samples / name, tmp_path / "out.onnx", data=samples / "evaluation.npz", **extra)
    shape = read_signature(onnx.load(tmp_path / "out.onnx")).inputs[0].shape
    if name != "program.pt2":  # whose dimension torch has named itself
        assert shape[0] == "batch"
    assert isinstance(shape[0], str)
    assert shape[1:] == (1, 28, 28)
    assert done.stage.facts["parity"]["max_difference"] < 1e-4
    assert _accuracy(optkit.load(tmp_path / "out.onnx"), samples) > 0.85


class Named(torch.nn.Module):
    def forward(self, x):
        return {"twice": 2 * x, "sum": x.sum(1)}


def test_torchscript_that_returns_a_dict_exports_under_its_names(tmp_path):
    torch.jit.trace(Named(), torch.zeros(2, 3), strict=False).save(tmp_path / "named.pt")
    optkit.export(tmp_path / "named.pt", tmp_path / "named.onnx", inputs=("x:float32[batch,3]",))
    assert [value.name for value in onnx.load(tmp_path / "named.onnx").graph.output] == ["twice", "sum"]


def test_a_state_dict_without_inputs_is_refused_with_an_example(samples, tmp_path):
    with pytest.raises(SignatureError) as caught:
        optkit.export(samples / "weights.pth", tmp_path / "out.onnx", code=f"{samples / 'net.py'}:build")
    assert "--input" in caught.value.hint


def test_a_model_that_draws_random_numbers_fails_parity_and_leaves_nothing(optkit, tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import torch\n"
        "class Noisy(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.line = torch.nn.Linear(4, 3)\n"
        "    def forward(self, x):\n        return self.line(x) + torch.rand_like(x[:, :3])\n"
        "def build():\n    return Noisy()\n"
    )
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.ModuleDict({"line": torch.nn.Linear(4, 3)}).state_dict(), tmp_path / "weights.pth")
    arguments = ("export", "weights.pth", "--code", "noisy.py:build", "--input", "x:float32[batch,4]", "-o", "out.onnx")
    done = optkit(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "output 'output': the export differs" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_static_int8_is_smaller_and_keeps_the_accuracy(target, samples, tmp_path):
    suffix = "onnx" if target == "onnxruntime" else "xml"
    output = tmp_path / f"small.{suffix}"
    data = samples / "evaluation.npz"
    done = optkit.quantize(samples / "model.onnx", output, data=data, target=target, seconds=0.2)
    before, after = done.comparison.rows
    assert done.stage.method == "int8 static"
    assert after.model.size_bytes < 0.6 * before.model.size_bytes
    assert after.quality.loss.value < 0.03
    assert done.calibration.count + after.quality.count == 1500


def test_static_int8_takes_ranges_behind_an_activation_function_and_not_before(samples, tmp_path):
    optkit.quantize(
        samples / "model.onnx", tmp_path / "out.onnx", calibration=samples / "calibration.npz", measure=False
    )
    assert _behind("Conv", "Relu", onnx.load(tmp_path / "out.onnx")) == 0
    optkit.quantize(
        samples / "model.onnx",
        tmp_path / "kept.onnx",
        calibration=samples / "calibration.npz",
        measure=False,
        exclude=("Relu",),
    )
    assert _behind("Conv", "Relu", onnx.load(tmp_path / "kept.onnx")) > 0


def test_ranges_that_were_kept_give_the_same_file(samples, tmp_path, monkeypatch):
    model = optkit.open(samples / "model.onnx")
    calibration = open_dataset(samples / "calibration.npz", model.signature.inputs)

    def quantized(name, ranges, *excluded):
        (tmp_path / name).mkdir()
        request = Request(model, tmp_path / name, 8, calibration, QuantizeOptions(exclude=excluded), ranges=ranges)
        return onnxruntime_static.quantize(request).path.read_bytes()

    kept = RangeCache()
    anew = quantized("anew", RangeCache(), "Gemm")
    quantized("other", kept, "Relu")
    monkeypatch.setattr(qdq, "_calibrated", None)
    assert quantized("again", kept, "Gemm") == anew


def _behind(first, second, proto):
    """How many ``second`` take what a ``first`` gave, quantized and dequantized in between or not."""
    made = {name: node for node in proto.graph.node for name in node.output}

    def source(name):
        while made[name].op_type in ("QuantizeLinear", "DequantizeLinear"):
            name = made[name].input[0]
        return made[name].op_type

    return sum(node.op_type == second and source(node.input[0]) == first for node in proto.graph.node)


def test_int8_without_data_takes_a_method_that_needs_none_and_says_what_data_would_bring(samples, tmp_path):
    done = optkit.quantize(samples / "model.onnx", tmp_path / "small.onnx", measure=False)
    assert done.stage.method == "int8 weight-only"
    assert any("with --data" in note.text for note in done.stage.notes)
    assert _accuracy(optkit.load(tmp_path / "small.onnx"), samples) > 0.85


def test_a_quantized_model_is_not_quantized_again(samples, tmp_path):
    optkit.quantize(samples / "model.onnx", tmp_path / "once.onnx", data=samples / "evaluation.npz", measure=False)
    again = optkit.quantize(tmp_path / "once.onnx", tmp_path / "twice.onnx", measure=False)
    assert any("already quantized" in note.text for note in again.stage.notes)
    assert (tmp_path / "twice.onnx").read_bytes() == (tmp_path / "once.onnx").read_bytes()


def test_fp16_says_what_it_does_on_a_cpu(samples, tmp_path):
    done = optkit.quantize(samples / "model.onnx", tmp_path / "half.onnx", precision="fp16", measure=False)
    assert any("hardly ever faster" in note.text for note in done.stage.notes)
    assert done.stage.result.size_bytes < 0.6 * done.stage.source.size_bytes
    assert _accuracy(optkit.load(tmp_path / "half.onnx"), samples) > 0.85


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"method": "static"}, UsageError),
        ({"precision": "bf16"}, UsageError),
        ({"precision": "int4", "method": "dynamic"}, UsageError),
        ({"precision": "int4"}, StageError),
        ({"engine": "nncf", "method": "dynamic", "target": "openvino"}, UsageError),
    ],
)
def test_what_cannot_be_quantized_is_refused_with_a_hint(options, error, samples, tmp_path):
    with pytest.raises(error) as caught:
        optkit.quantize(samples / "model.onnx", tmp_path / "out.onnx", measure=False, **options)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_every_way_to_calibrate_is_one_of_an_engine_and_an_option():
    ways = {way for entry in QUANTIZERS for way in lazy.resolve(QUANTIZERS, entry, kind="quantizer").calibrations}
    assert ways == set(get_args(Calibrate))


@pytest.mark.parametrize(("target", "calibrate"), [("onnxruntime", "mean"), ("openvino", "entropy")])
def test_a_way_to_calibrate_that_the_engine_lacks_is_refused(target, calibrate, samples, tmp_path):
    ready = {"calibration": samples / "calibration.npz", "method": "static", "measure": False}
    assert calibrate not in static_quantizer("nncf" if target == "openvino" else target).calibrations
    with pytest.raises(UsageError, match=f"cannot calibrate by {calibrate}") as caught:
        optkit.quantize(samples / "model.onnx", tmp_path / "out.onnx", target=target, calibrate=calibrate, **ready)
    assert "minmax" in caught.value.hint


def test_an_output_that_exists_is_kept_unless_forced(samples, tmp_path):
    output = tmp_path / "out.onnx"
    output.write_text("mine")
    with pytest.raises(OutputError):
        optkit.quantize(samples / "model.onnx", output, measure=False)
    assert output.read_text() == "mine"
    optkit.quantize(samples / "model.onnx", output, measure=False, force=True)
    assert onnx.load(output).graph.node


def test_force_replaces_a_bundle_and_no_other_folder(samples, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"replaces only a folder with a manifest\.json"):
        optkit.compile(samples / "model.onnx", mine, target="onnxruntime", force=True)
    assert (mine / "thesis.tex").read_text() == "years of work"
    for _ in range(2):
        optkit.compile(samples / "model.onnx", tmp_path / "bundle", target="onnxruntime", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "mine"]


def test_a_suffix_of_another_format_is_refused_before_work_starts(samples, tmp_path):
    with pytest.raises(OutputError, match="suffix"):
        optkit.export(samples / "traced.pt", tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_bundle_runs_and_names_every_option(target, samples, tmp_path):
    optkit.compile(samples / "model.onnx", tmp_path / "bundle", target=target, threads=1)
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["target"] == target
    assert manifest["options"]
    with optkit.load(tmp_path / "bundle") as session:
        assert _accuracy(session, samples) > 0.85
        with pytest.raises(SignatureError):
            session.run({"x": np.zeros((1, 28, 28), np.float32)})


def test_a_bundle_whose_files_changed_does_not_load(samples, tmp_path):
    optkit.compile(samples / "model.onnx", tmp_path / "bundle", target="onnxruntime")
    file = next((tmp_path / "bundle").glob("*.onnx"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError):
        optkit.load(tmp_path / "bundle")


def test_calibration_data_may_not_be_evaluation_data(optkit, samples, tmp_path):
    data = samples / "evaluation.npz"
    arguments = ("quantize", samples / "model.onnx", "--int8", "--data", data, "--calibration", data)
    done = optkit(*arguments, "-o", tmp_path / "out.onnx")
    assert done.returncode == 2
    assert "share 300 of 1500 evaluation samples" in done.stderr


@pytest.mark.parametrize("flags", [(), ("--int4", "--fp16")])
def test_exactly_one_precision_is_wanted(flags, optkit, samples):
    done = optkit("quantize", samples / "model.onnx", *flags)
    assert done.returncode == 2
    assert "give one of --int8" in done.stderr


def test_layers_with_one_bias_become_integers_whatever_their_tensors_are_called(tmp_path):
    weights = {
        "w": np.ones((4, 4, 1, 1), np.float32),
        "v": np.ones((4, 4, 1, 1), np.float32),
        "b": np.ones(4, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["b0"], name="first"),
        helper.make_node("Neg", ["b0"], ["n"], name="between"),
        helper.make_node("Conv", ["n", "v", "b"], ["y"], name="second"),
    ]
    save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4, 8, 8]}, {"y": ["batch", 4, 8, 8]}, weights)
    feed = np.random.default_rng(0).random((8, 4, 8, 8), np.float32)
    np.savez(tmp_path / "data.npz", x=feed)
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "measure": False}
    optkit.quantize(tmp_path / "model.onnx", tmp_path / "small.onnx", **ready)
    with optkit.load(tmp_path / "small.onnx") as session:
        found = session.run({"x": feed})["y"]
    np.testing.assert_allclose(found, np.broadcast_to(1 - 4 * (feed.sum(1, keepdims=True) + 1), feed.shape), atol=0.5)


def test_a_clip_that_integers_do_by_themselves_is_taken_away(tmp_path):
    weights = {"w": np.eye(4, dtype=np.float32)[..., None, None], "low": np.float32(0), "high": np.float32(0.5)}
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["y"]),
    ]
    save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4, 8, 8]}, {"y": ["batch", 4, 8, 8]}, weights)
    feed = np.random.default_rng(0).random((8, 4, 8, 8), np.float32)
    np.savez(tmp_path / "data.npz", x=feed)
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "measure": False}
    optkit.quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx", **ready)
    assert "Clip" not in count_operators(graph.load(tmp_path / "int8.onnx"))
    with optkit.load(tmp_path / "int8.onnx") as session:
        np.testing.assert_allclose(session.run({"x": feed})["y"], feed.clip(0, 0.5), atol=0.01)


def test_products_come_out_in_float_so_that_one_large_channel_does_not_coarsen_the_others(tmp_path):
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((16, 16)).astype(np.float32)
    weights[:, 0] *= 1000
    feed = draw.standard_normal((64, 4, 16)).astype(np.float32)
    path = save(
        tmp_path / "large.onnx",
        [helper.make_node("MatMul", ["x", "weights"], ["y"], "product")],
        {"x": ("batch", 4, 16)},
        {"y": ("batch", 4, 16)},
        {"weights": weights},
    )
    np.savez(tmp_path / "data.npz", x=feed)
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "measure": False}
    optkit.quantize(path, tmp_path / "int8.onnx", **ready)
    y = optkit.load(tmp_path / "int8.onnx").run({"x": feed})["y"]
    expected = feed @ weights
    errors = np.abs(y - expected).max((0, 1)) / np.abs(expected).max((0, 1))
    assert errors.max() < 0.02


def test_nncf_does_not_part_a_silu(tmp_path):
    openvino = pytest.importorskip("openvino")
    weights = {name: np.random.default_rng(0).random((4, 4, 3, 3), np.float32) for name in ("v", "w")}
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4, 8, 8]}, {"y": ["batch", 4, 8, 8]}, weights)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).random((8, 4, 8, 8), np.float32))
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "target": "openvino", "measure": False}
    optkit.quantize(tmp_path / "model.onnx", tmp_path / "int8.xml", **ready)
    kinds = [each.get_type_name() for each in openvino.Core().read_model(tmp_path / "int8.xml").get_ops()]
    assert "Swish" in kinds
    assert "Sigmoid" not in kinds
    assert kinds.count("FakeQuantize") == 2  # of what either convolution takes in


def test_nncf_takes_in_the_strongest_sample_unless_told_to_average(tmp_path):
    weights = {"w": np.eye(4, dtype=np.float32)[..., None, None]}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="same")]
    save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4, 8, 8]}, {"y": ["batch", 4, 8, 8]}, weights)
    feed = np.random.default_rng(0).random((20, 4, 8, 8), np.float32)
    feed[0] *= 10
    np.savez(tmp_path / "data.npz", x=feed)
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "target": "openvino", "measure": False}
    highest = {}
    for how in ("minmax", "mean"):
        optkit.quantize(tmp_path / "model.onnx", tmp_path / f"{how}.xml", calibrate=how, **ready)
        with optkit.load(tmp_path / f"{how}.xml") as session:
            highest[how] = session.run({"x": feed[:1]})["y"].max()
    assert highest["minmax"] == pytest.approx(feed.max(), rel=0.05)
    assert highest["mean"] < 0.5 * feed.max()


def test_a_product_whose_bias_is_a_row_gets_a_scale_for_each_channel(tmp_path):
    weights = {"w": np.diag([1.0, 100.0, 0.01, 1.0]).astype(np.float32), "b": np.ones((1, 4), np.float32)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product")]
    save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, weights)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((8, 4), np.float32))
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "measure": False}
    done = optkit.quantize(tmp_path / "model.onnx", tmp_path / "small.onnx", **ready)
    assert not [note.text for note in done.stage.notes if "one scale per tensor" in note.text]


def test_a_product_with_several_matrices_at_once_runs_in_integers(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 16, 8)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4, 3, 16]}, {"y": ["batch", 4, 3, 8]}, {"w": weight})
    feed = rng.random((8, 4, 3, 16), np.float32)
    np.savez(tmp_path / "data.npz", x=feed)
    ready = {"calibration": tmp_path / "data.npz", "method": "static", "measure": False}
    optkit.quantize(tmp_path / "model.onnx", tmp_path / "small.onnx", **ready)
    with optkit.load(tmp_path / "small.onnx") as session:
        np.testing.assert_allclose(session.run({"x": feed})["y"], feed @ weight, atol=0.2)
