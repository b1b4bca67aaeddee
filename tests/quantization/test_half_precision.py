"""Graphs made float16 and bfloat16 for TensorRT: what they compute, what stays float32, that TensorRT takes them."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import save

import optkit as ok
from optkit.data.dataset import open_dataset
from optkit.errors import StageError, UsageError
from optkit.formats import opening
from optkit.quantization.half import limits as half_limits
from optkit.quantization.half.cast import BFLOAT16, to_float32, to_half
from optkit.stages.quantize import Quantize
from optkit.stages.stage import Context

PRECISIONS = ("fp16", "bf16")
NUMBERS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
SAMPLES = Path(__file__).parents[2] / "sample_models"


def narrowed(path, folder, precision="fp16", samples=None, **fields):
    """The outcome of the stage for tensorrt, in a folder of its own; ``samples`` are feeds, or a file of them."""
    workdir = Path(tempfile.mkdtemp(dir=folder))
    opened = opening.open(path)
    if isinstance(samples, dict):
        np.savez(workdir / "samples.npz", **samples)
        samples = workdir / "samples.npz"
    calibration = samples and open_dataset(samples, opened.signature.inputs)
    context = Context(workdir=workdir, calibration=calibration, target="tensorrt")
    stage = Quantize(precision=precision, **fields)
    stage.check(opened, context)
    return stage.apply(opened, context)


def texts(outcome):
    return "\n".join(note.text for note in outcome.notes)


def cosine(outcome, output):
    (text,) = (note.text for note in outcome.notes if note.where == output)
    return float(text.split("cosine at least ")[1].split(",")[0])


def wide(outcome):
    """The names of the nodes that compute or take float32, casts aside."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(outcome.model.path)).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    return {
        node.name
        for node in graph.node
        if floats.intersection([*node.input, *node.output]) and not node.name.endswith("_cast")
    }


def answers(path, feed):
    return onnxruntime.InferenceSession(path).run(None, feed)


def built(path, sizes):
    """Bytes of the engine that TensorRT-RTX builds of a file, with these sizes for each input's dynamic dimensions."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [parser.get_error(n).desc() for n in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        name = network.get_input(number).name
        profile.set_shape(name, *[sizes[name] if isinstance(sizes, dict) else sizes] * 3)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return engine and engine.nbytes


@pytest.mark.parametrize("case", ["own", "scale of two", "zero point"])
def test_scales_are_raised_with_their_constants_or_not_at_all(case):
    point = np.int8(3 if case == "zero point" else 0)
    constants = {"a": np.full((4, 4), 100, np.int8), "b": np.full((4, 4), 50, np.int8), "zero": point}
    scales = {"first": np.float32(1e-7), "second": np.float32(1e-7)}
    last = "first" if case == "scale of two" else "second"
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "first", "zero"], ["c"]),
        helper.make_node("DequantizeLinear", ["b", last, "zero"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    stored = [numpy_helper.from_array(np.asarray(each), name) for name, each in (constants | scales).items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])
    proto = helper.make_model(
        helper.make_graph(nodes, "pairs", [], [output], stored), opset_imports=[helper.make_opsetid("", 19)],
        ir_version=9,
    )  # fmt: skip
    before = onnx.reference.ReferenceEvaluator(proto).run(None, {})[0]
    half_limits.raise_scales(proto)
    after = onnx.reference.ReferenceEvaluator(proto).run(None, {})[0]
    np.testing.assert_allclose(after, before, rtol=0.02)
    held = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}["first"]
    assert (held == np.float16(held)) == (case == "own")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_sample_is_half_its_size_and_keeps_its_ends(precision, samples, tmp_path):
    done = narrowed(samples / "model.onnx", tmp_path, precision, samples / "calibration.npz")
    proto = onnx.load(done.model.path)
    assert {tensor.data_type for tensor in proto.graph.initializer} == {NUMBERS[precision], TensorProto.INT64}
    ends = {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    assert ends == {TensorProto.FLOAT}
    assert [node.op_type for node in proto.graph.node].count("Cast") == 2
    assert done.model.size_bytes < 0.55 * (samples / "model.onnx").stat().st_size
    assert (done.engine, done.method) == ("tensorrt", f"{precision} convert")
    assert cosine(done, "logits") > 0.999
    assert done.model.signature == opening.open(samples / "model.onnx").signature


def test_the_sample_in_float16_is_as_accurate(samples, tmp_path):
    done = narrowed(samples / "model.onnx", tmp_path, "fp16", samples / "calibration.npz")
    onnx.checker.check_model(done.model.path, full_check=True)
    rows = ok.compare(samples / "model.onnx", [done.model.path], data=samples / "evaluation.npz", seconds=0.1).rows
    before, after = (row.quality.value.value for row in rows)
    assert after == pytest.approx(before, abs=0.002)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensorrt_builds_the_sample(precision, samples, tmp_path):
    done = narrowed(samples / "model.onnx", tmp_path, precision)
    assert "without data" in texts(done)
    assert built(done.model.path, (4, 1, 28, 28)) > 100_000


def test_a_logarithm_of_what_float16_makes_zero_stays_float32(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "relu"),
        helper.make_node("Add", ["a", "least"], ["b"], "add"),
        helper.make_node("Log", ["b"], ["y"], "log"),
    ]
    least = {"least": np.array(1e-10, np.float32)}
    path = save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, least)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    done = narrowed(path, tmp_path, "fp16", {"x": x})
    assert wide(done) == {"add", "log"}
    assert cosine(done, "y") > 0.9999


def test_what_only_adds_nearly_nothing_is_float16(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], "layer", kernel_shape=[1, 1]),
        helper.make_node("Add", ["a", "row"], ["c"], "bias"),
        helper.make_node("Mul", ["c", "row"], ["d"], "less"),
        helper.make_node("Add", ["c", "d"], ["e"], "sum"),
        helper.make_node("Add", ["e", "least"], ["y"], "guard"),
    ]
    constants = {
        "w": np.ones((4, 4, 1, 1), np.float32),
        "b": np.full(4, 1e-6, np.float32),
        "row": np.full((4, 1, 1), 1e-6, np.float32),
        "least": np.array(1e-6, np.float32),
    }
    path = save(tmp_path / "model.onnx", nodes, {"x": ["batch", 4, 2, 2]}, {"y": ["batch", 4, 2, 2]}, constants)
    done = narrowed(path, tmp_path, "fp16", {"x": np.random.default_rng(0).random((8, 4, 2, 2), np.float32)})
    assert wide(done) == {"less", "guard"}
    assert cosine(done, "y") > 0.9999


def test_all_of_a_state_counts_whose_samples_lie_on_another_axis(tmp_path):
    nodes = [
        helper.make_node("Mul", ["h", "third"], ["s"], "state"),
        helper.make_node("Relu", ["x"], ["y"], "relu"),
    ]
    inputs, outputs = ({name: ["batch", 4], state: [2, "batch", 4]} for name, state in ("xh", "ys"))
    path = save(tmp_path / "model.onnx", nodes, inputs, outputs, {"third": np.full(4, 1 / 3, np.float32)})
    (tmp_path / "feeds").mkdir()
    state = np.stack([np.zeros((1, 4)), np.ones((1, 4))]).astype(np.float32)
    np.savez(tmp_path / "feeds" / "0.npz", x=np.ones((1, 4), np.float32), h=state)
    done = narrowed(path, tmp_path, "bf16", tmp_path / "feeds")
    assert "relative error at most 0 %" not in next(note.text for note in done.notes if note.where == "s")


LACKING = {
    "ConvTranspose": ((1, 4, 6, 6), ((4, 2, 2, 2),), {}),
    "GRU": ((5, 1, 8), ((1, 24, 8), (1, 24, 8)), {"hidden_size": 8}),
    "HardSwish": ((1, 4, 6, 6), (), {}),
    "Mish": ((1, 4, 6, 6), (), {}),
}
"""Shapes of the input and the weights, and attributes."""


@pytest.mark.parametrize("operator", LACKING)
def test_what_tensorrt_lacks_in_bfloat16_stays_float32_and_is_built(operator, tmp_path):
    shape, weights, fields = LACKING[operator]
    constants = {f"w{n}": np.full(each, 0.1, np.float32) for n, each in enumerate(weights)}
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a"], "before"),
        helper.make_node(operator, ["a", *constants], ["b"], "wide", **fields),
        helper.make_node("Tanh", ["b"], ["y"], "after"),
    ]
    path = save(tmp_path / "model.onnx", nodes, {"x": list(shape)}, {"y": None}, constants, opset=20)
    done = narrowed(path, tmp_path, "bf16")
    assert f"1 x {operator} kept in float32: TensorRT does not have it in bfloat16" in texts(done)
    assert wide(done) == ({"before", "wide"} if operator == "GRU" else {"wide"})
    assert built(done.model.path, shape)


def overflowing(path):
    """A product whose values reach 1e6, another that brings them back, and one beside them that is of usual size."""
    weights = {
        "large": np.full((4, 4), 3e4, np.float32),
        "small": np.full((4, 4), 1e-3, np.float32),
        "usual": np.eye(4, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["a"], "up"),
        helper.make_node("MatMul", ["a", "small"], ["b"], "down"),
        helper.make_node("MatMul", ["b", "usual"], ["c"], "last"),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    return save(path, nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, weights)


def test_what_overflows_float16_stays_float32_and_computes_the_same(tmp_path):
    path = overflowing(tmp_path / "model.onnx")
    x = np.random.default_rng(0).uniform(5, 10, (20, 4)).astype(np.float32)
    done = narrowed(path, tmp_path, samples={"x": x})
    assert wide(done) == {"up", "down"}
    assert "2 x MatMul kept in float32: values come near or beyond 65504" in texts(done)
    np.testing.assert_allclose(answers(done.model.path, {"x": x})[0], answers(path, {"x": x})[0], rtol=2e-3)
    assert built(done.model.path, (2, 4))


def test_bfloat16_holds_what_float16_does_not(tmp_path):
    x = np.random.default_rng(0).uniform(5, 10, (20, 4)).astype(np.float32)
    done = narrowed(overflowing(tmp_path / "model.onnx"), tmp_path, "bf16", {"x": x})
    assert "kept in float32" not in texts(done)
    assert cosine(done, "y") > 0.99999


def test_an_output_that_becomes_infinite_is_an_error_that_names_the_first_node(tmp_path, monkeypatch):
    path = overflowing(tmp_path / "model.onnx")
    monkeypatch.setattr(half_limits, "out_of_range", lambda *_: {})  # as where samples tell too little
    x = np.full((2, 4), 10, np.float32)
    with pytest.raises(
        StageError, match=r"output y becomes NaN or infinite in float16: MatMul up is the first"
    ) as told:
        narrowed(path, tmp_path, samples={"x": x})
    assert told.value.hint.startswith("--exclude up, or --bf16")
    excluded = narrowed(path, tmp_path, samples={"x": x}, exclude=("up", "down"))
    assert "2 x MatMul kept in float32: asked for with exclude" in texts(excluded)


def masked(path, lowest=-3.4028234663852886e38):
    """Attention over keys of which a mask of integers hides some, written as exporters write it."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"], "product"),
        helper.make_node("Cast", ["mask"], ["shown"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "shown"], ["hidden"], "sub"),
        helper.make_node("Mul", ["hidden", "lowest"], ["added"], "scale"),
        helper.make_node("Add", ["scores", "added"], ["sum"], "add"),
        helper.make_node("Softmax", ["sum"], ["y"], "softmax"),
    ]
    weights = {
        "w": 30 * np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32),
        "one": np.array(1, np.float32),
        "lowest": np.array(lowest, np.float32),
    }
    save(path, nodes, {"x": ["batch", 4]}, {"y": ["batch", 6]}, weights)
    proto = onnx.load(path)
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", 6]))
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("lowest", [-3.4028234663852886e38, -1e9])
def test_masks_become_what_the_narrow_type_can_add_to(lowest, precision, tmp_path):
    path = masked(tmp_path / "model.onnx", lowest)
    generator = np.random.default_rng(1)
    feed = {
        "x": generator.standard_normal((10, 4)).astype(np.float32),
        "mask": generator.integers(0, 2, (10, 6)),
    }
    feed["mask"][:, 0] = 1
    done = narrowed(path, tmp_path, precision, feed)
    if (precision, lowest) != ("bf16", -1e9):
        assert "1 constants that stand for infinity" in texts(done)
    assert {"add", "softmax", "product"}.isdisjoint(wide(done))
    assert {"cast", "sub", "scale"} <= wide(done)
    assert cosine(done, "y") > 0.999
    if precision == "fp16":
        np.testing.assert_allclose(answers(done.model.path, feed)[0], answers(path, feed)[0], atol=0.03)
        feed["mask"][:] = 0  # nothing is shown
        assert np.isfinite(answers(done.model.path, feed)[0]).all()
    assert built(done.model.path, {"x": (2, 4), "mask": (2, 6)})
    for tensor in onnx.load(done.model.path).graph.initializer:
        assert np.isfinite(numpy_helper.to_array(tensor).astype(np.float32)).all()


def branching(path):
    """A product, a branch that uses it and a weight around it, and a product behind."""

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    then = helper.make_graph([helper.make_node("Add", ["p", "w"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph([helper.make_node("Identity", ["p"], ["e"])], "else", [], [value("e")])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "before"),
        helper.make_node("ReduceMax", ["p"], ["m"], "max", keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["yes"], "greater"),
        helper.make_node("If", ["yes"], ["g"], "branch", then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["g", "w"], ["y"], "after"),
    ]
    weights = {"w": np.eye(4, dtype=np.float32) / 2, "zero": np.array(0, np.float32)}
    return save(path, nodes, {"x": [4, 4]}, {"y": [4, 4]}, weights)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_control_flow_stays_float32_and_takes_what_lies_around_it(precision, tmp_path):
    path = branching(tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    done = narrowed(path, tmp_path, precision, {"x": x})
    assert "1 x If kept in float32: control flow is not converted" in texts(done)
    assert cosine(done, "y") > 0.9999
    if precision == "fp16":
        for sign in (1, -1):
            feed = {"x": sign * np.abs(x[:4])}
            np.testing.assert_allclose(answers(done.model.path, feed)[0], answers(path, feed)[0], atol=1e-3)
    assert built(done.model.path, (4, 4))


def test_a_normalization_written_out_stays_float32(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("ReduceMean", ["p"], ["mean"], "mean", axes=[-1]),
        helper.make_node("Sub", ["p", "mean"], ["d"], "sub"),
        helper.make_node("Pow", ["d", "two"], ["squares"], "square"),
        helper.make_node("ReduceMean", ["squares"], ["variance"], "variance", axes=[-1]),
        helper.make_node("Add", ["variance", "epsilon"], ["more"], "epsilon"),
        helper.make_node("Sqrt", ["more"], ["deviation"], "root"),
        helper.make_node("Div", ["d", "deviation"], ["n"], "divide"),
        helper.make_node("MatMul", ["n", "w"], ["y"], "last"),
    ]
    weights = {
        "w": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32),
        "two": np.array(2, np.float32),
        "epsilon": np.array(1e-12, np.float32),
    }
    path = save(tmp_path / "model.onnx", nodes, {"x": ["batch", 8]}, {"y": ["batch", 8]}, weights)
    x = 100 * np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    for precision, samples in (("fp16", None), ("bf16", None), ("fp16", {"x": x})):
        done = narrowed(path, tmp_path, precision, samples)
        assert wide(done) == {"square", "variance", "epsilon", "root", "divide"}
    np.testing.assert_allclose(answers(done.model.path, {"x": x})[0], answers(path, {"x": x})[0], atol=0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_onnx_wants_in_float32_stays_so_tensor_by_tensor(precision, tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Resize", ["r", "", "scales"], ["big"], "resize", mode="nearest"),
        helper.make_node("Shape", ["big"], ["shape"], "shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], "ones",
                         value=numpy_helper.from_array(np.array([1], np.float32))),
        helper.make_node("Add", ["big", "ones"], ["y"], "add"),
    ]  # fmt: skip
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    path = save(tmp_path / "model.onnx", nodes, {"x": [1, 2, 3, 3]}, {"y": [1, 2, 6, 6]}, weights)
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)
    done = narrowed(path, tmp_path, precision, {"x": x})
    assert wide(done) == {"resize"}  # its scales
    assert "kept in float32" not in texts(done)
    assert built(done.model.path, (1, 2, 3, 3))
    if precision == "fp16":
        np.testing.assert_allclose(answers(done.model.path, {"x": x})[0], answers(path, {"x": x})[0], atol=2e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_positions_are_counted_in_float32_up_to_where_they_meet_the_model(precision, tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], "length", start=1, end=2),
        helper.make_node("Squeeze", ["length"], ["stop"], "stop"),
        helper.make_node("Range", ["start", "stop", "step"], ["positions"], "range"),
        helper.make_node("Cast", ["positions"], ["counted"], "count", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["counted", "frequency"], ["angle"], "angle"),
        helper.make_node("Sin", ["angle"], ["turn"], "sine"),
        helper.make_node("Mul", ["x", "turn"], ["y"], "mix"),
    ]
    weights = {
        "start": np.array(0, np.int64),
        "step": np.array(1, np.int64),
        "frequency": np.array(0.7, np.float32),
    }
    path = save(tmp_path / "model.onnx", nodes, {"x": [1, 5000]}, {"y": [1, 5000]}, weights)
    done = narrowed(path, tmp_path, precision, {"x": np.ones((3, 5000), np.float32)})
    assert wide(done) == {"count", "angle", "sine"}
    assert cosine(done, "y") > 0.9999


def test_a_loops_body_takes_what_it_uses_in_float32(tmp_path):
    def value(name, kind=TensorProto.FLOAT, shape=None):
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "p"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [value("number", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), value("state", shape=[2, 4])],
        [value("still", TensorProto.BOOL, []), value("next", shape=[2, 4])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "before"),
        helper.make_node("Loop", ["times", "yes", "p"], ["sum"], "loop", body=body),
        helper.make_node("Relu", ["sum"], ["y"], "after"),
    ]
    weights = {"w": np.eye(4, dtype=np.float32), "times": np.array(3, np.int64), "yes": np.array(True)}
    path = save(tmp_path / "model.onnx", nodes, {"x": [2, 4]}, {"y": [2, 4]}, weights)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    done = narrowed(path, tmp_path, "fp16", {"x": x})
    assert built(path, (2, 4))
    assert "1 x Loop kept in float32" in texts(done)
    np.testing.assert_allclose(answers(done.model.path, {"x": x})[0], answers(path, {"x": x})[0], atol=5e-3)
    assert built(done.model.path, (2, 4))


def test_bfloat16_rounds_to_the_nearest_even():
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -3.4028234663852886e38, np.inf, np.nan, 1e-40, 0], np.float32)
    found = numpy_helper.to_array(to_float32(to_half(numpy_helper.from_array(values, "a"), BFLOAT16, "b")))
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    expected[3] = -BFLOAT16.largest
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": "int4"}, "nothing is made int4"),
        ({"precision": "int8", "method": "dynamic"}, "is static, not dynamic"),
        ({"precision": "int8"}, "needs calibration data"),
        ({"precision": "fp16", "engine": "nncf"}, "nncf makes nothing for tensorrt"),
    ],
)
def test_what_tensorrt_does_not_take_is_refused_before_work(fields, message, samples, tmp_path):
    with pytest.raises(UsageError, match=message) as told:
        narrowed(samples / "model.onnx", tmp_path, **fields)
    assert told.value.hint


def test_excluding_everything_is_an_error_and_excluding_nothing_a_note(tmp_path):
    path = overflowing(tmp_path / "model.onnx")
    with pytest.raises(StageError, match="no operator of it can be float16"):
        narrowed(path, tmp_path, exclude=("MatMul", "Relu"))
    assert "exclude 'Conv' left nothing in float" in texts(narrowed(path, tmp_path, exclude=("Conv",)))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    path = tmp_path_factory.mktemp("minilm") / "model.onnx"
    ok.export(
        SAMPLES / "fetched" / "minilm" / "model.safetensors",
        path,
        code=f"{SAMPLES}/minilm/net.py:build",
        inputs=tuple(f"{name}:int64[batch,sequence]" for name in ("input_ids", "attention_mask", "token_type_ids")),
    )
    return path


@pytest.mark.thorough
@pytest.mark.skipif(not (SAMPLES / "fetched").is_dir(), reason="run sample_models/fetch.py first")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_minilm_keeps_its_embeddings(precision, minilm, tmp_path):
    done = narrowed(minilm, tmp_path, precision, SAMPLES / "minilm" / "texts.yaml")
    assert cosine(done, "embedding") > {"fp16": 0.9999, "bf16": 0.999}[precision]
    assert done.model.size_bytes < 0.51 * minilm.stat().st_size
    operators = {node.name: node.op_type for node in onnx.load(done.model.path).graph.node}
    assert {operators[name] for name in wide(done)}.isdisjoint({"MatMul", "LayerNormalization", "Softmax", "Gather"})
    assert built(done.model.path, (2, 16)) > 4e7


@pytest.mark.parametrize("first", PRECISIONS)
def test_a_narrow_graph_made_narrow_again_is_valid(first, samples, tmp_path):
    once = narrowed(samples / "model.onnx", tmp_path, "fp16", samples / "calibration.npz")
    again = narrowed(once.model.path, tmp_path, first, samples / "calibration.npz")
    assert cosine(again, "logits") > 0.999
