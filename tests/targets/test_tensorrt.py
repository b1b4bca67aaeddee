"""TensorRT without a GPU: engines for GPUs that are not there, what is refused, and what is in an engine."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from cuda_runtime import Runtime
from onnx import TensorProto, helper, numpy_helper
from onnx_files import nodes_of

import optkit as package
from optkit.errors import MissingDeviceError, MissingLibraryError, ModelError, TargetError, UsageError
from optkit.explanation import commands
from optkit.formats import opening, tensorrt_engine
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement.candidate import Candidate
from optkit.runs import proof
from optkit.stages.compile import Compile
from optkit.targets import cuda
from optkit.targets.target import target
from optkit.targets.tensorrt import bindings, builder, shape_profiles

pytest.importorskip("tensorrt_rtx")

CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
MIXED = ("int8-fp16", "int8-bf16", "fp8-fp16", "fp8-bf16")
"""8 bits, and what they leave in float."""
PRODUCTS = ("correlation", "gemm")
VERSION = [1, 7, 1, 116]


@pytest.fixture(scope="module")
def narrow(samples, tmp_path_factory):
    """The committed CNN in each precision, and what quantizing told."""
    folder = tmp_path_factory.mktemp("narrow")

    def made(types):
        path, (precision, _, floats) = folder / f"{types}.onnx", types.partition("-")
        return path, package.quantize(
            samples / "model.onnx", path, precision=precision, floats=floats or "float32", target="tensorrt",
            data=samples / "evaluation.npz",
        )  # fmt: skip

    return {types: made(types) for types in ("int8", "fp16", "bf16", "fp8", *MIXED)}


def graph(path, nodes, inputs, outputs, constants=()):
    made = helper.make_graph(nodes, "graph", inputs, outputs, [numpy_helper.from_array(*each) for each in constants])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return path


def floats(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture
def refused(tmp_path):
    """A model with two operators that TensorRT does not have."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "fine"),
        helper.make_node("BiasGelu", ["a", "b"], ["y"], "contrib", domain="com.microsoft"),
        helper.make_node("Det", ["m"], ["d"], "determinant"),
    ]
    bias = (np.ones(4, np.float32), "b")
    return graph(
        tmp_path / "refused.onnx", nodes, [floats("x", "n", 4), floats("m", "n", 4, 4)],
        [floats("y", "n", 4), floats("d", "n")], [bias],
    )  # fmt: skip


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", ["float32", "fp16", "bf16", "int8", "int8-fp16", "int8-bf16"])
def test_an_engine_is_built_for_a_gpu_that_is_not_there(samples, narrow, tmp_path, precision, capability):
    path = samples / "model.onnx" if precision == "float32" else narrow[precision][0]
    done = package.compile(path, tmp_path / "bundle", target="tensorrt", compute_capability=[capability])
    engine = tmp_path / "bundle/model.engine"
    assert tensorrt_engine.header(engine.read_bytes()[: tensorrt_engine.HEADER_BYTES]).capabilities == (capability,)
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text())
    assert manifest["options"]["compute_capabilities"] == [capability]
    assert manifest["options"]["profiles"] == [
        {"x": {"min": [1, 1, 28, 28], "opt": [1, 1, 28, 28], "max": [32, 1, 28, 28]}}
    ]
    assert manifest["format"] == "tensorrt"
    named = {"fp16": "float16", "bf16": "bfloat16"}.get(precision, precision.partition("-")[0])
    counts = done.stage.facts["layers_by_precision"]
    assert max(counts, key=counts.get) == named
    assert any("TensorRT-RTX" in note.text and capability in note.text for note in done.stage.notes)


def test_all_layers_with_weights_are_integers(narrow):
    found = package.inspect(narrow["int8"][0], targets=["tensorrt"]).targets[0]
    assert found.accepted
    products = [layer for layer in found.layers if layer.kind in PRODUCTS]
    assert len(products) == 10
    assert {layer.precision for layer in products} == {"int8"}
    assert any(node.startswith("node_Conv") for layer in products for node in layer.nodes)


def test_what_has_no_integer_kernel_is_not_rounded_for_it(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "layer", kernel_shape=[1, 1]),
        helper.make_node("ConvTranspose", ["a", "v"], ["y"], "larger", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 4, 1, 1), "v": (4, 4, 2, 2)}
    weights = [(rng.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()]
    path = graph(tmp_path / "m.onnx", nodes, [floats("x", "n", 4, 8, 8)], [floats("y", "n", 4, 16, 16)], weights)
    np.savez(tmp_path / "x.npz", x=rng.random((8, 4, 8, 8), np.float32))
    out = tmp_path / "int8.onnx"
    package.quantize(path, out, precision="int8", target="tensorrt", data=tmp_path / "x.npz", measure=False)
    assert nodes_of(out, "DequantizeLinear") == {"x_DequantizeLinear", "w_DequantizeLinear"}
    layers = package.inspect(out, targets=["tensorrt"]).targets[0].layers
    assert [each.precision for each in layers if each.kind == "deconv"] == ["float32"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_weights_that_are_several_matrices_have_a_scale_for_each_output(tmp_path, precision):
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(4, 64, 32)).astype(np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    path = graph(tmp_path / "m.onnx", [node], [floats("x", "n", 4, 16, 64)], [floats("y", "n", 4, 16, 32)], [weight])
    np.savez(tmp_path / "x.npz", x=rng.random((8, 4, 16, 64), np.float32))
    out = tmp_path / "out.onnx"
    package.quantize(path, out, precision=precision, target="tensorrt", data=tmp_path / "x.npz", measure=False)
    layers = package.inspect(out, targets=["tensorrt"]).targets[0].layers
    told = {"int8": "int8", "fp8": "float8"}[precision]
    assert [each.precision for each in layers if each.kind in (*PRODUCTS, "runtime_fusion")] == [told]
    assert "gemm" in {each.kind for each in layers}


def test_a_layer_of_nearly_nothing_has_a_scale_in_fp8(tmp_path):
    weights = [(np.full((4, 4), value, np.float32), name) for name, value in (("w", 1e-40), ("v", 1.0))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "less"), helper.make_node("MatMul", ["a", "v"], ["y"], "on")]
    path = graph(tmp_path / "m.onnx", nodes, [floats("x", "n", 4)], [floats("y", "n", 4)], weights)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((8, 4), np.float32))
    out = tmp_path / "out.onnx"
    package.quantize(path, out, precision="fp8", target="tensorrt", data=tmp_path / "x.npz", measure=False)
    scales = {each.name: numpy_helper.to_array(each) for each in onnx.load(out).graph.initializer}
    assert all((values > 1e-38).all() for name, values in scales.items() if name.endswith("_scale"))
    assert package.inspect(out, targets=["tensorrt"]).targets[0].accepted


def test_integers_are_symmetric_and_biases_stay_in_float(narrow):
    proto = onnx.load(narrow["int8"][0])
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    pairs = [node for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert all(stored[node.input[2]].dtype == np.int8 and not stored[node.input[2]].any() for node in pairs)
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert all(stored[node.input[2]].dtype == np.float32 for node in convolutions)
    by_output = {output: node for node in proto.graph.node for output in node.output}
    scales = [stored[by_output[node.input[1]].input[1]] for node in convolutions]
    assert all(scale.ndim == 1 and len(scale) > 1 for scale in scales)


def test_each_residual_sum_takes_in_one_rounded_branch(narrow):
    proto = onnx.load(narrow["int8"][0])
    by_output = {output: node for node in proto.graph.node for output in node.output}
    sums = [node for node in proto.graph.node if node.op_type == "Add"]
    assert len(sums) == 3
    for node in sums:
        assert [by_output[name].op_type for name in node.input].count("DequantizeLinear") == 1


@pytest.mark.parametrize("types", MIXED)
def test_what_8_bits_leave_in_float_may_be_narrow(narrow, types):
    path, done = narrow[types]
    eight, _, sixteen = types.partition("-")
    number = TensorProto.FLOAT16 if sixteen == "fp16" else TensorProto.BFLOAT16
    proto = onnx.load(path)
    if sixteen == "fp16":
        onnx.checker.check_model(proto, full_check=True)
    inner = {each.data_type for each in proto.graph.initializer} - {TensorProto.INT64}
    assert inner == {number, TensorProto.INT8 if eight == "int8" else TensorProto.FLOAT8E4M3FN}
    assert {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)} == {1}
    assert done.stage.method.startswith(f"{eight} and {sixteen} ")
    assert done.comparison.rows[1].quality.loss.value < 0.01
    found = package.inspect(path, targets=["tensorrt"]).targets[0]
    products = [layer.precision for layer in found.layers if layer.kind in PRODUCTS]
    assert products == [{"fp8": "float8"}.get(eight, eight)] * 10
    assert not any(layer.precision == "float32" for layer in found.layers)


@pytest.mark.parametrize("small", [1e-7, 1e-10])
def test_channels_next_to_nothing_keep_scales_that_tensorrt_takes(tmp_path, small):
    weight = np.ones((4, 8), np.float32) * np.float32([1, 1, 1, small])[:, None]
    weight[2] = 0
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "product", transB=1)
    path = graph(tmp_path / "m.onnx", [node], [floats("x", "n", 8)], [floats("y", "n", 4)], [(weight, "w")])
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    package.quantize(
        path, tmp_path / "q.onnx", floats="fp16", target="tensorrt", data=tmp_path / "d.npz", measure=False
    )
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load(tmp_path / "q.onnx").graph.initializer}
    nodes = {node.op_type: node for node in onnx.load(tmp_path / "q.onnx").graph.node if node.input[0] in stored}
    quantized, scales = (stored[name].astype(np.float32) for name in nodes["DequantizeLinear"].input[:2])
    assert scales.min() > 0
    np.testing.assert_allclose(quantized * scales[:, None], weight, rtol=0.01, atol=1e-7)
    assert package.inspect(tmp_path / "q.onnx", targets=["tensorrt"]).targets[0].accepted


def test_a_layer_of_tiny_weights_stays_in_float32_with_its_pairs(tmp_path):
    weights = [(np.eye(8, dtype=np.float32) * size, name) for size, name in ((1e-5, "tiny"), (1.0, "usual"))]
    nodes = [
        helper.make_node("MatMul", ["x", "tiny"], ["a"], "first"),
        helper.make_node("Mul", ["a", "up"], ["b"], "raise"),
        helper.make_node("MatMul", ["b", "usual"], ["y"], "second"),
    ]
    constants = [*weights, (np.float32(1e5), "up")]
    path = graph(tmp_path / "m.onnx", nodes, [floats("x", "n", 8)], [floats("y", "n", 8)], constants)
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    done = package.quantize(
        path, tmp_path / "q.onnx", floats="fp16", target="tensorrt", data=tmp_path / "d.npz", metric="cosine"
    )
    assert done.comparison.rows[1].quality.value.value > 0.999
    found = package.inspect(tmp_path / "q.onnx", targets=["tensorrt"]).targets[0]
    assert [layer.precision for layer in found.layers if layer.kind in PRODUCTS] == ["int8", "int8"]


def product_net(path, sizes, between=(), weights=None):
    """MatMuls of 8x8 weights of these sizes; ``between`` is what the output of each but the last is multiplied by."""
    constants, nodes, source = [], [], "x"
    for place, size in enumerate(sizes):
        given = np.linalg.qr(np.random.default_rng(place).standard_normal((8, 8)))[0].astype(np.float32) * size
        name, made = (weights or {}).get(place, f"w{place}"), f"p{place}"
        constants += [(given, name)] if name not in [each[1] for each in constants] else []
        nodes.append(helper.make_node("MatMul", [source, name], [made], f"product{place}"))
        if place < len(between):
            constants.append((np.float32(between[place]), f"f{place}"))
            nodes.append(helper.make_node("Mul", [made, f"f{place}"], [f"s{place}"], f"scale{place}"))
            made = f"s{place}"
        source = made
    nodes.append(helper.make_node("Relu", [source], ["y"], "end"))
    np.savez(path.with_suffix(".npz"), x=np.random.default_rng(9).standard_normal((64, 8)).astype(np.float32))
    return graph(path, nodes, [floats("x", "n", 8)], [floats("y", "n", 8)], constants)


def mixed(path, **fields):
    """The file in INT8 with float16 between, and its products' precisions in an engine."""
    done = package.quantize(
        path, path.with_name("q.onnx"), floats="fp16", target="tensorrt", data=path.with_suffix(".npz"),
        metric="cosine", force=True, **fields,
    )  # fmt: skip
    found = package.inspect(path.with_name("q.onnx"), targets=["tensorrt"]).targets[0]
    return done, [layer.precision for layer in found.layers if layer.kind in PRODUCTS]


@pytest.mark.parametrize(
    ("sizes", "between"),
    [
        pytest.param((1e5, 1.0), (1e-5,), id="an output beyond float16"),
        pytest.param((1e8, 1.0), (1e-8,), id="a scale beyond float16"),
        pytest.param((1e-5, 1.0), (1e5,), id="a scale too small for float16"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_layer_that_stays_in_float32_between_8_bits_is_still_of_integers(tmp_path, sizes, between):
    done, products = mixed(product_net(tmp_path / "m.onnx", sizes, between))
    assert done.comparison.rows[1].quality.value.value > 0.99
    assert products == ["int8", "int8"]
    assert any("MatMul kept in float32" in note.text for note in done.stage.notes)


def test_what_is_excluded_is_kept_from_8_bits_alone(tmp_path):
    done, _ = mixed(product_net(tmp_path / "m.onnx", (1.0, 1.0)), exclude=("product1",))
    layers = package.inspect(tmp_path / "q.onnx", targets=["tensorrt"]).targets[0].layers
    taking = {name: {each.precision for each in layers if name in each.nodes} for name in ("product0", "product1")}
    assert "int8" in taking["product0"]
    assert all(precision.startswith("float16") for precision in taking["product1"])
    assert [note.text for note in done.stage.notes if "MatMul" in note.text] == [
        "1 x MatMul kept in float: asked for with exclude"
    ]


def test_what_is_excluded_keeps_its_weight_where_another_layer_has_the_same(tmp_path):
    path = product_net(tmp_path / "m.onnx", (1.0, 1.0), weights={0: "w", 1: "w"})
    package.quantize(
        path, tmp_path / "q.onnx", target="tensorrt", data=tmp_path / "m.npz", exclude=("product1",), measure=False
    )
    proto = onnx.load(tmp_path / "q.onnx")
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    weights = {node.name: node.input[1] for node in proto.graph.node if node.op_type == "MatMul"}
    assert weights["product0"] not in stored
    np.testing.assert_array_equal(
        stored[weights["product1"]], numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    )


def test_a_layer_that_the_engine_leaves_alone_is_told(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("BiasGelu", ["a", "b"], ["c"], "unknown", domain="com.microsoft"),
        helper.make_node("MatMul", ["c", "w"], ["y"], "second"),
    ]
    constants = [(np.eye(8, dtype=np.float32), "w"), (np.ones(8, np.float32), "b")]
    path = graph(tmp_path / "m.onnx", nodes, [floats("x", "n", 8)], [floats("y", "n", 8)], constants)
    np.savez(tmp_path / "m.npz", x=np.random.default_rng(9).standard_normal((64, 8)).astype(np.float32))
    done = package.quantize(path, tmp_path / "q.onnx", target="tensorrt", data=tmp_path / "m.npz", measure=False)
    (note,) = (note for note in done.stage.notes if "the data type of their input is unknown" in note.text)
    assert note.text.startswith("1 x MatMul kept in float")


def test_of_a_file_in_8_bits_the_rest_can_be_made_narrow(narrow, samples, tmp_path):
    data = samples / "evaluation.npz"
    done = package.quantize(narrow["int8"][0], tmp_path / "q.onnx", precision="fp16", target="tensorrt", data=data)
    assert any("what that leaves in float becomes fp16" in note.text for note in done.stage.notes)
    assert package.inspect(tmp_path / "q.onnx").quantized == "QDQ int8 static, float16 between"
    products = package.inspect(tmp_path / "q.onnx", targets=["tensorrt"]).targets[0].layers
    assert [layer.precision for layer in products if layer.kind in PRODUCTS] == ["int8"] * 10
    again = package.quantize(tmp_path / "q.onnx", tmp_path / "r.onnx", floats="fp16", target="tensorrt", data=data)
    assert any("not done again" in note.text for note in again.stage.notes)


def test_a_library_that_finds_no_gpu_refuses_nothing(narrow, monkeypatch):
    def missing(candidate):
        raise MissingDeviceError("TensorRT 11.0 does not start")

    monkeypatch.setattr(proof, "examined", missing)
    assert list(proof._refused(opening.open(narrow["int8"][0]), "tensorrt")) == []


@pytest.mark.parametrize(
    ("types", "flags"), [("int8", "--int8 "), ("int8-fp16", "--int8 --fp16 "), ("fp8-bf16", "--fp8 --bf16 ")]
)
def test_a_command_to_paste_makes_the_same_types(samples, narrow, types, flags):
    made = opening.open(narrow[types][0])
    told = package.inspect(narrow[types][0]).quantized
    command = commands.quantize(
        opening.open(samples / "model.onnx"), Candidate(types, made, "tensorrt", {}), told, data="d.npz"
    )
    assert f"model.onnx {flags}--target tensorrt --method static" in command


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--int4", "--fp16"), "you gave --fp16 and --int4"),
        (("--int8", "--fp8"), "you gave --int8 and --fp8"),
        (("--int8", "--fp16", "--bf16"), "you gave --int8 and --fp16 and --bf16"),
        (
            ("--int8", "--fp16", "--target", "openvino"),
            "fp16 beside int8 is for tensorrt, not for openvino",
        ),
    ],
)
def test_types_that_do_not_go_together_are_told(optkit, samples, tmp_path, flags, message):
    done = optkit(
        "quantize", samples / "model.onnx", *flags, "--data", samples / "evaluation.npz", "-o", tmp_path / "m.onnx"
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_precision_that_leaves_no_floats_takes_no_other_type(samples, tmp_path):
    with pytest.raises(UsageError, match="floats goes with int8 and fp8, not with fp16"):
        package.quantize(
            samples / "model.onnx", tmp_path / "m.onnx", precision="fp16", floats="bf16", target="tensorrt"
        )


@pytest.mark.parametrize("capability", ["8.9", "12.0"])
def test_fp8_is_for_chips_that_have_it(narrow, tmp_path, capability):
    path = narrow["fp8"][0]
    done = package.compile(path, tmp_path / "bundle", target="tensorrt", compute_capability=[capability])
    assert done.stage.facts["layers_by_precision"]["float8"] == 10
    with pytest.raises(TargetError, match=r"fp8\.onnx: Cannot compile for target\(s\) sm86.*fp8_e4m3\.$") as raised:
        package.compile(path, tmp_path / "other", target="tensorrt", compute_capability=["8.6", capability])
    assert "--compute-capability" in raised.value.hint


def test_fp8_is_for_tensorrt_alone(samples, tmp_path):
    with pytest.raises(UsageError, match="openvino has no fp8 kernels"):
        package.quantize(
            samples / "model.onnx",
            tmp_path / "m.xml",
            precision="fp8",
            target="openvino",
            data=samples / "evaluation.npz",
        )


@pytest.mark.parametrize("precision", ["int8", "fp16", "bf16", "fp8", *MIXED])
def test_without_a_gpu_quality_is_computed_on_the_cpu_and_no_speed_claimed(narrow, precision):
    _, done = narrow[precision]
    before, after = done.comparison.rows
    assert abs(after.quality.loss.value) < 0.01
    assert after.speedup is None
    assert before.latency is None
    assert any("speed was not measured" in note.text for note in done.comparison.notes)


def test_refused_nodes_are_listed_with_their_reasons(refused):
    found = package.inspect(refused, targets=["tensorrt"]).targets[0]
    assert not found.accepted
    assert found.reason == "BiasGelu, Det"
    assert [(each.operator, each.node) for each in found.nodes] == [("BiasGelu", "contrib"), ("Det", "determinant")]
    assert found.nodes[0].reason == "no such operator, and no plugin of this name"
    assert found.nodes[1].reason == "no such operator"


def test_quantizing_what_is_refused_says_so(refused, tmp_path):
    shapes = {"x": (8, 4), "m": (8, 4, 4)}
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", **{name: draw.random(shape, np.float32) for name, shape in shapes.items()})
    done = package.quantize(
        refused, tmp_path / "h.onnx", precision="fp16", target="tensorrt", data=tmp_path / "d.npz", force=True
    )
    (note,) = (note for note in done.comparison.notes if "does not accept" in note.text)
    assert note.text.startswith("tensorrt does not accept the result: BiasGelu (contrib): no such operator")
    assert "and 1 more; see optkit inspect" in note.text


def test_compiling_what_is_refused_names_the_nodes_and_leaves_nothing(refused, tmp_path):
    with pytest.raises(TargetError, match=r"BiasGelu \(contrib\): no such operator.*Det \(determinant\)") as raised:
        package.compile(refused, tmp_path / "bundle", target="tensorrt")
    assert "inspect" in raised.value.hint
    assert not (tmp_path / "bundle").exists()


def test_polygraphy_sees_the_same(refused, narrow):
    """A second opinion: NVIDIA's own tool refuses the same nodes, and builds an engine of the same size."""
    script = f"""
import tensorrt_rtx as trt
from polygraphy.backend.trt import CreateConfig, Profile, engine_bytes_from_network, network_from_onnx_path
log = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
create = CreateConfig(profiles=[Profile().add("x", (1, 1, 28, 28), (1, 1, 28, 28), (32, 1, 28, 28))])
def config(builder, network):
    made = create(builder, network)
    made.num_compute_capabilities = 1
    made.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return made
source = network_from_onnx_path({str(narrow["int8"][0])!r}, strongly_typed=True)
print("bytes", len(bytes(engine_bytes_from_network(source, config=config))))
try:
    network_from_onnx_path({str(refused)!r}, strongly_typed=True)
except Exception as error:
    print("refused", error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False,
        env=os.environ | {"POLYGRAPHY_USE_TENSORRT_RTX": "1"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert all(name in said for name in ("contrib", "determinant")), said[-2000:]
    size = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("bytes"))
    ours = package.compile(
        narrow["int8"][0],
        narrow["int8"][0].parent / "bundle",
        target="tensorrt",
        compute_capability=["8.9"],
        force=True,
    )
    assert ours.stage.result.size_bytes == size


def test_shapes_become_profiles(samples, tmp_path):
    package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", shapes=["batch=2/8/16"])
    options = json.loads((tmp_path / "bundle/manifest.json").read_text())["options"]
    assert options["profiles"] == [{"x": {"min": [2, 1, 28, 28], "opt": [8, 1, 28, 28], "max": [16, 1, 28, 28]}}]
    assert "shapes" not in options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch", "is not NAME=MIN/OPT/MAX"),
        ("batch=1/2", "is not NAME=MIN/OPT/MAX"),
        ("batch=8/4/2", "must grow"),
        ("batch=0/1/2", "must grow"),
        ("bach=1/2/4", "no dynamic dimension of this name"),
    ],
)
def test_wrong_shapes_are_told(samples, tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", shapes=[text])
    assert not (tmp_path / "bundle").exists()


def test_sizes_that_no_one_gave_are_supposed():
    signature = Signature((TensorSpec("ids", "int64", ("batch", "sequence")), TensorSpec("fixed", "float32", (1, 2))))
    ranges, supposed = shape_profiles.of(signature, shape_profiles.parsed(["sequence=16"]))
    assert supposed == ["batch"]
    assert shape_profiles.profile(signature, ranges) == {"ids": {"min": [1, 16], "opt": [1, 16], "max": [32, 16]}}


def test_a_profile_that_does_not_fit_the_graph_is_one_line(samples, tmp_path):
    wrong = [{"x": {"min": [1, 3, 28, 28], "opt": [1, 3, 28, 28], "max": [1, 3, 28, 28]}}]
    with pytest.raises(TargetError, match=r"x.*(1|profile)"):
        package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", options={"profiles": wrong})


def test_sizes_that_were_supposed_and_do_not_fit_the_graph_are_told(tmp_path):
    node, to = helper.make_node("Reshape", ["x", "to"], ["y"]), (np.array([6, 8]), "to")
    path = graph(tmp_path / "fixed.onnx", [node], [floats("x", 1, "height")], [floats("y", 6, 8)], [to])
    with pytest.raises(TargetError, match="cannot build fixed") as caught:
        package.compile(path, tmp_path / "bundle", target="tensorrt")
    assert caught.value.hint == (
        "perhaps for the sizes that were assumed: height may be 1/128/512 (min/opt/max); --shapes height=... changes it"
    )
    package.compile(path, tmp_path / "bundle", target="tensorrt", shapes=["height=48"])
    (refused,), (taken,) = (
        package.inspect(path, targets=["tensorrt"], shapes=shapes).targets for shapes in ([], ["height=48"])
    )
    assert not refused.accepted
    assert "--shapes height=... changes it" in refused.reason
    assert taken.layers
    with pytest.raises(UsageError, match="no dynamic dimension of this name"):
        package.inspect(path, targets=["tensorrt"], shapes=["width=48"])
    with pytest.raises(UsageError, match="shapes is for tensorrt"):
        package.inspect(path, shapes=["height=48"])


def test_what_is_recurrent_is_told_to_stay_in_float(tmp_path):
    weights = [(np.full(shape, 0.1, np.float32), name) for name, shape in (("w", (1, 16, 4)), ("r", (1, 16, 4)))]
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["a"], "recurrent", hidden_size=4),
        helper.make_node("MatMul", ["a", "v"], ["y"], "layer"),
    ]
    weights.append((np.eye(4, dtype=np.float32), "v"))
    path = graph(tmp_path / "m.onnx", nodes, [floats("x", 5, 1, 4)], [floats("y", 5, 1, 1, 4)], weights)
    (tmp_path / "feeds").mkdir()
    for number in range(4):
        x = np.random.default_rng(number).random((5, 1, 4), np.float32)
        np.savez(tmp_path / "feeds" / f"{number}.npz", x=x)
    done = package.quantize(
        path, tmp_path / "int8.onnx", precision="int8", target="tensorrt", data=tmp_path / "feeds", measure=False
    )
    assert "1 x LSTM kept in float" in " ".join(note.text for note in done.stage.notes)


def test_what_onnxruntime_warns_of_while_it_quantizes_is_not_heard(tmp_path, capfd):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = (np.ones((4, 4), np.float32), "w")
    path = graph(tmp_path / "m.onnx", [node], [floats("x", "n", 4)], [floats("y", "a", "b", "c")], [weight])
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((8, 4), np.float32))
    package.quantize(
        path, tmp_path / "int8.onnx", precision="int8", target="tensorrt", data=tmp_path / "x.npz", measure=False
    )
    assert "MergeShapeInfo" not in capfd.readouterr().err


def test_a_builders_message_is_one_line_without_places_in_its_source():
    place = "In operator() at /_src/shape.cpp:640 In rebuild at /_src/optimizer/valueRebuilder.cpp:160)"
    told = builder._plain(f"IBuilder::buildSerializedNetwork: Error Code 4: Shape Error (inherently\nfalse {place}")
    assert told == "Shape Error: inherently false"
    text = "IBuilder::build: Error Code 2: [graphScope.cpp::analyze::471] Internal Error (Assertion tScope)"
    assert builder._plain(text) == "Internal Error: Assertion tScope"
    assert len(builder._plain("Myelin (" + "x" * 5000)) < 310


def test_an_input_whose_values_are_shapes_is_refused(tmp_path):
    sizes = helper.make_tensor_value_info("s", TensorProto.INT64, [2])
    path = graph(
        tmp_path / "reshape.onnx", [helper.make_node("Reshape", ["x", "s"], ["y"])], [floats("x", "n", 4), sizes],
        [floats("y", "a", "b")],
    )  # fmt: skip
    with pytest.raises(TargetError, match="the values of input 's' decide shapes"):
        package.compile(path, tmp_path / "bundle", target="tensorrt")


def test_float64_becomes_float32_and_is_told(tmp_path):
    double = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 4]) for name in ("x", "y")]
    path = graph(tmp_path / "double.onnx", [helper.make_node("Relu", ["x"], ["y"])], double[:1], double[1:])
    done = package.compile(path, tmp_path / "bundle", target="tensorrt")
    assert any("TensorRT knows no float64: x" in note.text for note in done.stage.notes)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_narrow_graphs_have_types_that_fit(tmp_path, precision, dtype):
    """What makes floats of sizes, by default float32; inputs and outputs that are halves."""
    ends = [helper.make_tensor_value_info(name, dtype, ["n", 8]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["m"], "product"),
        helper.make_node("Add", ["m", "z"], ["a"]),
        helper.make_node("Cast", ["a"], ["y"], to=dtype),
    ]
    random = np.random.default_rng(0)
    path = graph(
        tmp_path / "m.onnx", nodes, ends[:1], ends[1:], [(random.standard_normal((8, 8)).astype(np.float32), "w")]
    )
    halves = np.float16 if dtype == TensorProto.FLOAT16 else np.float32
    np.savez(tmp_path / "x.npz", x=random.standard_normal((64, 8)).astype(halves))
    done = package.quantize(
        path, tmp_path / "q.onnx", precision=precision, target="tensorrt", data=tmp_path / "x.npz", metric="cosine"
    )
    assert done.comparison.rows[-1].quality.value.value > 0.999
    package.compile(tmp_path / "q.onnx", tmp_path / "bundle", target="tensorrt")


def test_dimensions_without_a_name_may_differ(tmp_path):
    """Paddle calls all of them ``?``, which would be one size."""
    shape = ["?", 2, "?", "?"]
    path = graph(
        tmp_path / "paddle.onnx", [helper.make_node("Relu", ["x"], ["y"])], [floats("x", *shape)], [floats("y", *shape)]
    )
    package.compile(path, tmp_path / "bundle", target="tensorrt", shapes=["x_2=8/16/32", "x_3=64"])
    options = json.loads((tmp_path / "bundle/manifest.json").read_text())["options"]
    assert options["profiles"][0]["x"]["opt"] == [1, 2, 16, 64]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute_capabilities": ["9.0"]}, "builds for no compute capability 9.0"),
        ({"flags": ["FP16"]}, "flags: no 'FP16'"),
        ({"memory_pool_limits": {"WORK": 1}}, "memory_pool_limits: no 'WORK'"),
        ({"timing_cache": "timing.cache"}, "times nothing while it builds"),
        ({"builder_optimisation_level": 5}, "tensorrt has no option 'builder_optimisation_level'"),
        ({"builder_optimization_level": 9}, "less than or equal to 5, not 9"),
        ({"builder_optimization_level": True}, "builder_optimization_level should be a valid integer, not True"),
        ({"copies": "no"}, "copies should be a valid boolean, not 'no'"),
        ({"memory_pool_limits": {"WORKSPACE": "1G"}}, "memory_pool_limits should be a valid integer, not '1G'"),
    ],
)
def test_unknown_options_are_told(samples, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", options=options)


def test_options_of_tensorrt_are_of_no_use_elsewhere(samples, tmp_path):
    with pytest.raises(UsageError, match="compute_capability is for tensorrt"):
        package.compile(samples / "model.onnx", tmp_path / "bundle", target="openvino", compute_capability=["8.9"])


def test_a_build_tells_how_far_it_is_and_ends_with_ctrl_c(samples, tmp_path):
    told = []

    def watch(what, done, total):
        told.append(what)
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", progress=watch)
    assert any(what.startswith("building") for what in told)
    assert not (tmp_path / "bundle").exists()


def test_an_engine_says_whose_it_is(samples, tmp_path):
    package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", compute_capability=["8.6", "12.0"])
    engine = tmp_path / "bundle/model.engine"
    opened = opening.open(engine)
    assert (opened.format, opened.signature) == ("tensorrt", None)
    assert opening.open(tmp_path / "bundle").signature.inputs[0].name == "x"
    assert "for compute capability 8.6, 12.0" in package.inspect(engine).producer
    foreign = tmp_path / "foreign.engine"
    foreign.write_bytes(b"ptrt" + bytes(200))
    found = package.inspect(foreign, targets=["tensorrt"])
    assert found.producer == "TensorRT"
    assert "an engine of TensorRT, and here is TensorRT-RTX" in found.targets[0].reason
    broken = tmp_path / "broken.engine"
    broken.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged engine"):
        opening.open(broken)


def test_an_engine_without_its_gpu_is_a_missing_device(samples, tmp_path):
    package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt")
    if target("tensorrt").absence() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(MissingDeviceError, match="no NVIDIA GPU can be used"):
        package.load(tmp_path / "bundle")
    with pytest.raises(MissingDeviceError):
        package.benchmark([tmp_path / "bundle"], seconds=0.5)


@pytest.mark.parametrize(("capability", "known"), [("8.9", True), ("9.0", False)])
def test_a_gpu_that_the_library_does_not_know_is_a_missing_device(samples, monkeypatch, capability, known):
    monkeypatch.setattr(cuda, "_library", lambda: Runtime(capability))
    reason = target("tensorrt").absence()
    if known:
        assert reason is None
        return
    assert reason.startswith(f"{bindings.name()} knows no compute capability 9.0, only 7.5, 8.0, 8.6, 8.9")
    with pytest.raises(MissingDeviceError, match=r"knows no compute capability 9\.0") as caught:
        target("tensorrt").open(opening.open(samples / "model.onnx"), {})
    assert "pip install tensorrt" in caught.value.hint


def test_what_is_to_be_measured_on_a_gpu_that_is_not_there_does_not_begin(samples, tmp_path):
    if target("tensorrt").absence() is None:
        pytest.skip("there is a GPU")
    net, data = samples / "model.onnx", samples / "evaluation.npz"
    package.compile(net, tmp_path / "engine", target="tensorrt")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{path: {net}}}\ndata: {{path: {data}}}\ntargets: [tensorrt]\nstages: [compile]\n")
    weights = {"code": f"{samples}/net.py:build", "inputs": ("x:float32[batch,1,28,28]",)}
    for attempt in (
        lambda: package.optimize(net, tmp_path / "bundle", data=data, targets=["tensorrt"]),
        lambda: package.run(recipe, output=tmp_path / "run"),
        lambda: package.plan(recipe),
        lambda: package.compare(net, [tmp_path / "engine"]),
        lambda: package.gate(tmp_path / "engine", baseline=net, data=data),
        lambda: package.benchmark([tmp_path / "engine/model.engine"]),
        lambda: package.prune(
            samples / "weights.pth",
            tmp_path / "p.safetensors",
            target="tensorrt",
            target_speedup=1.5,
            data=data,
            **weights,
        ),
    ):
        with pytest.raises(MissingDeviceError, match="tensorrt cannot run here: no NVIDIA GPU"):
            attempt()
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("precision", ["int8", "fp8"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_a_gemms_beta_is_kept(tmp_path, precision, beta):
    random = np.random.default_rng(0)
    weight, bias = random.standard_normal((16, 8)).astype(np.float32), 3 * np.ones(8, np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", beta=beta)
    path = graph(
        tmp_path / "gemm.onnx", [node], [floats("x", "n", 16)], [floats("y", "n", 8)], [(weight, "w"), (bias, "b")]
    )
    np.savez(tmp_path / "x.npz", x=random.standard_normal((64, 16)).astype(np.float32))
    done = package.quantize(
        path, tmp_path / "q.onnx", precision=precision, target="tensorrt", data=tmp_path / "x.npz", metric="cosine"
    )
    assert done.comparison.rows[-1].quality.value.value > 0.995


def test_a_changed_engine_is_no_bundle(samples, tmp_path):
    package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt")
    engine = tmp_path / "bundle/model.engine"
    engine.write_bytes(engine.read_bytes()[:-100])
    done = subprocess.run(
        [sys.executable, "-m", "optkit", "inspect", str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "changed since the bundle was made" in done.stderr


def test_bindings_without_their_libraries_give_way_to_what_imports(tmp_path):
    """``tensorrt`` from PyPI alone is bindings whose libraries come from NVIDIA's index."""
    broken = tmp_path / "tensorrt"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libnvonnxparser.so.11: cannot open shared object file')")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}

    def said(code):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)

    assert "TensorRT-RTX" in said("from optkit.targets.tensorrt import bindings; print(bindings.name())").stdout
    alone = said(
        "from optkit.targets.tensorrt import bindings; bindings.MODULES = ('tensorrt',); bindings.library()"
    ).stderr
    assert "tensorrt is installed and does not import: libnvonnxparser.so.11" in alone


def test_a_recipe_names_gpus_as_numbers():
    assert Compile(compute_capability=(8.9, 12.0)).compute_capability == ("8.9", "12.0")


class Caching:
    """Of a builder's configuration what is about timings, in place of TensorRT, whose libraries are not on PyPI."""

    def create_timing_cache(self, kept):
        return SimpleNamespace(serialize=lambda: kept + b"more")

    def set_timing_cache(self, cache, *, ignore_mismatch):
        self.cache = cache

    def get_timing_cache(self):
        return self.cache


def test_a_timing_cache_grows_from_build_to_build_and_rtx_has_none(tmp_path, monkeypatch):
    path = tmp_path / "timings"
    with pytest.raises(UsageError, match="times nothing while it builds"):
        builder.TimingCache(Caching(), str(path))
    monkeypatch.setattr(bindings, "is_rtx", lambda: False)
    for kept in (b"more", b"moremore"):
        builder.TimingCache(Caching(), str(path)).keep()
        assert path.read_bytes() == kept
    builder.TimingCache(Caching(), None).keep()
    assert list(tmp_path.iterdir()) == [path]


def test_building_needs_no_library_for_running(samples, tmp_path, monkeypatch):
    def missing():
        raise MissingLibraryError("this needs the library 'cuda'")

    monkeypatch.setattr("optkit.targets.cuda._library", missing)
    package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt")
    with pytest.raises(MissingDeviceError, match="needs the library 'cuda'"):
        package.load(tmp_path / "bundle")
