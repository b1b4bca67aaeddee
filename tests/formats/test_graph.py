"""ONNX graphs: whole walks, careful reading, a workable state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from optkit.errors import ModelError, OutputError
from optkit.formats import opening
from optkit.formats.model import files_of
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import count_operators, walk_tensors
from optkit.formats.onnx.quantized import quantization_scheme
from optkit.formats.onnx.signature import dtype_name, infer_shapes, read_signature
from optkit.formats.onnx.upgrade import constants_to_initializers, upgrade
from optkit.formats.tensors import TensorSpec

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def tensor(name: str, values: Any, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def info(name: str, shape: Any, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto] | None = None,
    *,
    opset: int = 17,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    body = helper.make_graph(nodes, "g", inputs, outputs, weights or [])
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(body, opset_imports=imports, ir_version=8)


@pytest.fixture
def linear() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    weights = [tensor("w", np.arange(12).reshape(4, 3)), tensor("b", [1, 2, 3])]
    return build(nodes, [info("x", ["batch", 4])], [info("y", ["batch", 3])], weights)


def branch(name: str, value: float) -> onnx.GraphProto:
    """A subgraph with its weight in a Constant node, used by an Add with the outer ``x``."""
    nodes = [
        helper.make_node("Constant", [], [f"{name}_c"], value=tensor("", [value])),
        helper.make_node("Add", ["x", f"{name}_c"], [f"{name}_y"]),
    ]
    return helper.make_graph(nodes, name, [], [info(f"{name}_y", ["n"])])


@pytest.fixture
def conditional() -> onnx.ModelProto:
    """An If whose branches hold weights in Constant nodes, one of them nested once more."""
    inner = helper.make_node("If", ["flag"], ["e_y"], then_branch=branch("a", 10), else_branch=branch("b", 20))
    other = helper.make_graph([inner], "e", [], [info("e_y", ["n"])])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("t", 1), else_branch=other)
    return build([node], [info("flag", [], BOOL), info("x", ["n"])], [info("y", ["n"])])


def run(proto: onnx.ModelProto, **feed: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run(None, {name: np.asarray(value) for name, value in feed.items()})[0]
    return output


# --- walking ----------------------------------------------------------------------------------------------------------


def test_operators_in_nested_subgraphs_are_counted(conditional: onnx.ModelProto) -> None:
    assert count_operators(conditional) == {"Add": 3, "Constant": 3, "If": 2}


def test_operators_in_functions_are_counted_and_foreign_domains_named() -> None:
    body = [helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Neg", ["c"], ["b"])]
    function = helper.make_function("mine", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    proto = build([helper.make_node("F", ["x"], ["y"], domain="mine")], [info("x", [2])], [info("y", [2])])
    proto.functions.append(function)
    assert count_operators(proto) == {"Neg": 1, "Relu": 1, "mine.F": 1}


def test_tensors_in_constant_nodes_and_subgraphs_are_found(conditional: onnx.ModelProto) -> None:
    values = sorted(numpy_helper.to_array(each).item() for each in walk_tensors(conditional))
    assert values == [1, 10, 20]


# --- signatures -------------------------------------------------------------------------------------------------------


def test_inputs_that_initializers_fill_are_no_inputs(linear: onnx.ModelProto) -> None:
    linear.graph.input.append(info("w", [4, 3]))
    signature = read_signature(linear)
    assert [str(spec) for spec in (*signature.inputs, *signature.outputs)] == [
        "x:float32[batch,4]",
        "y:float32[batch,3]",
    ]


@pytest.mark.parametrize("nameless", [None, "?", "-1", "None", -1, 0])
def test_nameless_dimensions_get_names_of_their_own(nameless: Any) -> None:
    proto = build([helper.make_node("Relu", ["x"], ["y"])], [info("x", [nameless, 3, nameless])], [info("y", None)])
    assert read_signature(proto).inputs == (TensorSpec("x", "float32", ("batch", 3, "x_2")),)
    assert read_signature(proto).outputs == (TensorSpec("y", "float32", None),)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.FLOAT, "float32"), (TensorProto.DOUBLE, "float64"), (TensorProto.FLOAT16, "float16"),
        (TensorProto.BFLOAT16, "bfloat16"), (TensorProto.INT64, "int64"), (TensorProto.UINT8, "uint8"),
        (TensorProto.BOOL, "bool"), (TensorProto.STRING, "string"), (TensorProto.INT4, "int4"),
    ],
)  # fmt: skip
def test_dtypes_are_named_as_numpy_does(kind: int, name: str) -> None:
    assert dtype_name(kind) == name


# --- a workable state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [9, 11, 12, 16])
def test_older_opsets_are_converted_without_changing_a_bit(opset: int) -> None:
    weights = [tensor("w", np.random.default_rng(0).normal(size=(2, 1, 3, 3)))]
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=1)]
    proto = build(nodes, [info("x", ["n", 1, 8, 8])], [info("y", ["n", 2, 6, 6])], weights, opset=opset)
    upgraded, changed = upgrade(proto)
    x = np.random.default_rng(1).normal(size=(2, 1, 8, 8)).astype("float32")
    assert changed
    assert graph.opset_of(upgraded) == 17
    assert graph.opset_of(proto) == opset
    np.testing.assert_allclose(run(upgraded, x=x), run(proto, x=x), rtol=1e-6)


def test_a_recent_opset_stays(linear: onnx.ModelProto) -> None:
    assert upgrade(linear) == (linear, False)


def test_a_model_that_cannot_be_converted_stays_as_it_is() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("NoSuchThing", ["h"], ["y"])]
    proto = build(nodes, [info("x", [1])], [info("y", [1])], opset=9)
    before = proto.SerializeToString()
    assert upgrade(proto)[1] is False
    assert proto.SerializeToString() == before


def test_weights_of_old_files_are_inputs_no_more_after_the_upgrade() -> None:
    proto = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [info("x", ["n", 2]), info("w", [2, 2])],
        [info("y", ["n", 2])],
        [tensor("w", np.eye(2))],
        opset=9,
    )
    proto.ir_version = 3
    upgraded, _ = upgrade(proto)
    assert [value.name for value in upgraded.graph.input] == ["x"]
    assert upgraded.ir_version >= 4


def test_constants_become_initializers_of_the_graph_they_are_in(conditional: onnx.ModelProto) -> None:
    x = np.ones(2, "float32")
    before = [run(conditional, x=x, flag=flag).tolist() for flag in (True, False)]
    assert constants_to_initializers(conditional) == 3
    assert "Constant" not in count_operators(conditional)
    assert not conditional.graph.initializer
    assert [run(conditional, x=x, flag=flag).tolist() for flag in (True, False)] == before


def test_constants_that_are_outputs_or_strings_stay() -> None:
    nodes = [
        helper.make_node("Constant", [], ["y"], value=tensor("", [1.0])),
        helper.make_node("Constant", [], ["s"], value_string="text"),
        helper.make_node("Constant", [], ["f"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["i"], value_int=3),
    ]
    proto = build(nodes, [], [info("y", [1])])
    assert constants_to_initializers(proto) == 2
    assert count_operators(proto) == {"Constant": 2}
    assert {each.name: each.data_type for each in proto.graph.initializer} == {"f": FLOAT, "i": INT64}


def test_shapes_are_inferred_where_they_can_be(linear: onnx.ModelProto) -> None:
    assert [value.name for value in infer_shapes(linear).graph.value_info] == ["h"]


# --- quantized already ------------------------------------------------------------------------------------------------


def with_nodes(*names: str, domain: str = "", **attributes: Any) -> onnx.ModelProto:
    nodes = [helper.make_node(name, ["w"], [f"y{index}"], domain=domain) for index, name in enumerate(names)]
    for node in nodes:
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return build(nodes, [info("x", [1])], [info("y0", [1])], [tensor("w", np.ones((2, 2)), "int8")])


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (with_nodes("Conv", "Relu"), None),
        (with_nodes("QuantizeLinear", "DequantizeLinear"), "QDQ int8 static"),
        (with_nodes("DequantizeLinear", "MatMul"), "weight-only int8 (DequantizeLinear)"),
        (with_nodes("QLinearConv", "QuantizeLinear"), "static int8 (QLinearConv)"),
        (with_nodes("MatMulInteger", "DynamicQuantizeLinear"), "dynamic int8 (DynamicQuantizeLinear, MatMulInteger)"),
        (with_nodes("DynamicQuantizeLSTM", domain="com.microsoft"), "dynamic int8 (DynamicQuantizeLSTM)"),
        (with_nodes("DynamicQuantizeMatMul", domain="com.microsoft"), "dynamic int8 (DynamicQuantizeMatMul)"),
        (with_nodes("ConvInteger"), "dynamic int8 (ConvInteger)"),
        (with_nodes("MatMulNBits", domain="com.microsoft", bits=4), "weight-only int4 (MatMulNBits)"),
        (with_nodes("MatMulNBits", domain="com.microsoft", bits=8), "weight-only int8 (MatMulNBits)"),
    ],
)
def test_a_quantized_model_is_recognized(proto: onnx.ModelProto, expected: str | None) -> None:
    assert quantization_scheme(proto) == expected


def test_half_precision_is_recognized() -> None:
    proto = build([helper.make_node("Relu", ["w"], ["y"])], [], [info("y", [9])], [tensor("w", np.ones(9), "float16")])
    assert quantization_scheme(proto) == "float16"


def test_a_quantized_subgraph_is_recognized() -> None:
    inner = helper.make_graph([helper.make_node("MatMulInteger", ["x", "x"], ["t"])], "t", [], [info("t", [1])])
    node = helper.make_node("If", ["f"], ["y"], then_branch=inner, else_branch=branch("e", 1))
    proto = build([node], [info("f", [], BOOL), info("x", [1])], [info("y", [1])])
    assert quantization_scheme(proto) == "dynamic int8 (MatMulInteger)"


# --- files ------------------------------------------------------------------------------------------------------------


def external(proto: onnx.ModelProto, path: Path, location: str, **place: int) -> Path:
    """``proto`` with the data of ``w`` said to be at ``location``."""
    weight = proto.graph.initializer[0]
    set_external_data(weight, location, **(place or {"offset": 0, "length": len(weight.raw_data)}))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_beside_the_model_is_read(linear: onnx.ModelProto, tmp_path: Path) -> None:
    expected = numpy_helper.to_array(linear.graph.initializer[0])
    (tmp_path / "w.data").write_bytes(linear.graph.initializer[0].raw_data)
    path = external(linear, tmp_path / "m.onnx", "w.data")
    np.testing.assert_array_equal(numpy_helper.to_array(graph.load(path).graph.initializer[0]), expected)
    assert files_of(path, "onnx") == (path, tmp_path / "w.data")


def test_external_data_counts_in_size_and_digest(linear: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(linear.graph.initializer[0].raw_data)
    opened = opening.open(external(linear, tmp_path / "m.onnx", "w.data"))
    assert opened.size_bytes == (tmp_path / "m.onnx").stat().st_size + 48
    (tmp_path / "w.data").write_bytes(bytes(48))
    assert opening.open(tmp_path / "m.onnx").digest != opened.digest


@pytest.mark.parametrize("location", ["../w.data", "/etc/hostname", "a/../../w.data", "..\\w.data", ""])
def test_external_data_elsewhere_is_refused(linear: onnx.ModelProto, tmp_path: Path, location: str) -> None:
    (tmp_path / "w.data").write_bytes(bytes(48))
    (tmp_path / "folder").mkdir()
    path = external(linear, tmp_path / "folder" / "m.onnx", location)
    for read in (graph.load, opening.open):
        with pytest.raises(ModelError, match="outside the model's folder"):
            read(path)


def test_external_data_behind_a_link_is_refused(linear: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(48))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "w.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside the model's folder"):
        opening.open(external(linear, tmp_path / "folder" / "m.onnx", "w.data"))


def test_external_data_in_a_subgraph_is_checked_too(conditional: onnx.ModelProto, tmp_path: Path) -> None:
    weight = next(walk_tensors(conditional))
    weight.raw_data = bytes(4)
    set_external_data(weight, "../w.data", offset=0, length=4)
    weight.data_location = TensorProto.EXTERNAL
    (tmp_path / "m.onnx").write_bytes(conditional.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        opening.open(tmp_path / "m.onnx")


def test_missing_external_data_is_named(linear: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"w.data: missing"):
        opening.open(external(linear, tmp_path / "m.onnx", "w.data"))


@pytest.mark.parametrize("place", [{"offset": 0, "length": 49}, {"offset": 40, "length": 40}])
def test_truncated_external_data_is_named(linear: onnx.ModelProto, tmp_path: Path, place: dict[str, int]) -> None:
    (tmp_path / "w.data").write_bytes(bytes(48))
    with pytest.raises(ModelError, match=r"w.data: truncated"):
        opening.open(external(linear, tmp_path / "m.onnx", "w.data", **place))


def test_saving_replaces_in_one_step_and_leaves_nothing_else(linear: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    graph.save(linear, path)
    assert graph.load(path) == linear
    assert list(tmp_path.iterdir()) == [path]


def test_large_weights_go_beside_the_model(linear: onnx.ModelProto, tmp_path: Path) -> None:
    linear.graph.initializer[0].CopyFrom(tensor("w", np.ones((4, 300))))
    linear.graph.initializer[1].CopyFrom(tensor("b", np.ones(300)))
    x = np.ones((2, 4), "float32")
    expected = run(linear, x=x)
    path = tmp_path / "m.onnx"
    graph.save(linear, path, embedded_limit=2000)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(run(graph.load(path), x=x), expected)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)


def test_a_place_that_cannot_be_written_is_named(linear: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/m.onnx: cannot be written"):
        graph.save(linear, tmp_path / "nowhere" / "m.onnx")


def test_an_opset_before_nine_is_refused_with_its_number(linear: onnx.ModelProto, tmp_path: Path) -> None:
    linear.opset_import[0].version = 8
    (tmp_path / "m.onnx").write_bytes(linear.SerializeToString())
    with pytest.raises(ModelError, match="opset 8; the oldest that optkit opens is 9"):
        graph.load(tmp_path / "m.onnx")
