"""What is excluded stays in float on both engines, under the names of the ONNX model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit as ok
from optkit.errors import StageError
from optkit.formats import opening
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import count_operators
from optkit.formats.openvino import stable_names
from optkit.quantization import openvino_nodes
from optkit.quantization.preparation import simplified
from optkit.quantization.selection import weighted_nodes
from optkit.system.native import Engine

FETCHED = Path(__file__).parents[2] / "sample_models" / "fetched"


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_an_excluded_convolution_stays_in_float_and_an_unknown_name_is_told(target, samples, tmp_path):
    path, _ = simplified(opening.open(samples / "model.onnx"), tmp_path, Engine())
    nodes = weighted_nodes(graph.load(path))
    for number, node in enumerate((nodes[0], nodes[len(nodes) // 2], nodes[-1])):
        output = tmp_path / f"{number}{'.xml' if target == 'openvino' else '.onnx'}"
        options = {"calibration": samples / "calibration.npz", "calibration_samples": 20, "measure": False}
        done = ok.quantize(
            samples / "model.onnx", output, target=target, method="static", exclude=(node.name, "Nowhere"), **options
        )
        told = [note.text for note in done.stage.notes if note.text.startswith("exclude")]
        assert len(told) == 1
        assert "'Nowhere'" in told[0]
        assert in_float(output, samples / "model.onnx", nodes, tmp_path) == [node.name]


def test_onnxruntime_does_not_quantize_an_excluded_convolution_by_itself(samples, tmp_path):
    import onnxruntime

    path, _ = simplified(opening.open(samples / "model.onnx"), tmp_path, Engine())
    nodes = weighted_nodes(graph.load(path))
    options = {"calibration": samples / "calibration.npz", "calibration_samples": 20, "measure": False}
    excluded = [node.name for node in nodes[1:4]]
    ok.quantize(samples / "model.onnx", tmp_path / "out.onnx", exclude=excluded, **options)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), settings)
    kinds = count_operators(graph.load(tmp_path / "optimized.onnx"))
    assert sum(kinds.get(name, 0) for name in ("Conv", "com.microsoft.FusedConv")) == len(excluded)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """MiniLM as ONNX."""
    path = tmp_path_factory.mktemp("transformer") / "model.onnx"
    ok.export(
        FETCHED / "minilm" / "model.safetensors",
        path,
        code=f"{FETCHED.parent}/minilm/net.py:build",
        inputs=tuple(f"{name}:int64[batch,sequence]" for name in ("input_ids", "attention_mask", "token_type_ids")),
    )
    return path


@pytest.mark.thorough
@pytest.mark.skipif(not FETCHED.is_dir(), reason="run sample_models/fetch.py first")
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_an_excluded_product_of_a_transformer_stays_in_float(target, transformer, tmp_path):
    path, _ = simplified(opening.open(transformer), tmp_path, Engine())
    nodes = weighted_nodes(graph.load(path))
    output = tmp_path / f"out{'.xml' if target == 'openvino' else '.onnx'}"
    options = {"calibration": FETCHED.parent / "minilm" / "texts.yaml", "calibration_samples": 4, "measure": False}
    chosen = nodes[len(nodes) // 2]
    ok.quantize(transformer, output, target=target, method="static", exclude=(chosen.name,), **options)
    assert in_float(output, transformer, nodes, tmp_path) == [chosen.name]


def in_float(path, source, nodes, folder):
    """The names of the nodes whose weights the quantized model at ``path`` holds as floats."""
    if path.suffix == ".onnx":
        proto = graph.load(path)
        rounded = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        found = {node.name: node for node in proto.graph.node}
        return [node.name for node in nodes if found[node.name].input[1] not in rounded]
    openvino = pytest.importorskip("openvino")
    names = openvino_nodes.operations(
        [node.name for node in nodes], opening.open(source), stable_names.read(source), folder
    )
    found = {each.get_friendly_name(): each for each in openvino.Core().read_model(path).get_ops()}
    products = {
        name: [found[each] for each in operations if found[each].get_type_name() in openvino_nodes.WEIGHTED]
        for name, operations in names.items()
    }
    assert all(len(each) == 1 for each in products.values())
    return [name for name, (product,) in products.items() if not _integers_in(product)]


def _integers_in(product):
    source = product.input_value(1).get_node()
    while source.input_values():
        source = source.input_value(0).get_node()
    return source.get_element_type().to_string() in ("i8", "u8")


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8])


def in_a_branch(node):
    """The node in one branch of an If that depends on the input; the other passes the input on."""
    then = helper.make_graph([node], "then", [], [value(node.output[0])])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "else", [], [value("e")])
    return [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other),
    ]


@pytest.mark.parametrize(
    ("method", "exclude", "told"),
    [
        ("static", ("MatMul",), "static INT8 has nothing to do: every layer that it knows is excluded"),
        ("dynamic", ("MatMul",), "dynamic INT8 has nothing to do: every layer that it knows is excluded"),
        ("static", (), "1 lie in branches or loops, where it does not look"),
        ("dynamic", (), "1 lie in branches or loops, where it does not look"),
    ],
)
def test_what_leaves_nothing_to_quantize_is_told(method, exclude, told, tmp_path):
    weights = [numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")]
    product = helper.make_node("MatMul", ["x", "w"], ["y" if exclude else "t"], name="product")
    nodes = [product] if exclude else in_a_branch(product)
    body = helper.make_graph(nodes, "net", [value("x")], [value("y")], weights)
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((4, 8), np.float32))
    given = {"calibration": tmp_path / "data.npz", "method": method, "exclude": exclude, "measure": False}
    with pytest.raises(StageError, match=told):
        ok.quantize(tmp_path / "m.onnx", tmp_path / "out.onnx", **given)
