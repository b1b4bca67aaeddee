"""A model in half precision is quantized like any other, and keeps the dtypes of its inputs and outputs."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit
from optkit.formats import opening
from optkit.quantization.preparation import prepared
from optkit.quantization.selection import weighted_nodes


def halves(path):
    """A Conv, a branch with a weight of its own, and a product whose weight is cast, all in float16."""
    generator = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array((generator.standard_normal(shape) / 4).astype(np.float16), name)

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)

    then = helper.make_graph(
        [helper.make_node("Add", ["f", "b"], ["t"])], "t", [], [value("t", None)], [weight("b", 8)]
    )
    other = helper.make_graph([helper.make_node("Identity", ["f"], ["e"])], "e", [], [value("e", None)])
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["y"], name="conv"),
        helper.make_node("GlobalAveragePool", ["y"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("If", ["yes"], ["g"], then_branch=then, else_branch=other),
        helper.make_node("Cast", ["g"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["m"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["single", "cast"], ["z"], name="product"),
        helper.make_node("Cast", ["z"], ["out"], to=TensorProto.FLOAT16),
    ]
    weights = [weight("c", 8, 3, 3, 3), weight("m", 8, 5), numpy_helper.from_array(np.array(True), "yes")]
    graph = helper.make_graph(nodes, "net", [value("x", ["n", 3, 8, 8])], [value("out", ["n", 5])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def answers(path, feed):
    return onnxruntime.InferenceSession(path).run(None, {"x": feed})[0]


def test_a_model_made_float32_computes_the_same_and_shows_its_weights(tmp_path):
    path = halves(tmp_path / "model.onnx")
    ready = prepared(opening.open(path))
    assert {node.name for node in weighted_nodes(ready.proto)} == {"conv", "product"}
    assert any("half precision" in note.text for note in ready.notes)
    onnx.checker.check_model(ready.proto, full_check=True)
    onnx.save(ready.proto, tmp_path / "wide.onnx")
    feed = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float16)
    found = answers(tmp_path / "wide.onnx", feed)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, answers(path, feed), atol=2e-3)


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_a_model_in_half_precision_becomes_integers(tmp_path, method):
    path = halves(tmp_path / "model.onnx")
    feed = np.random.default_rng(1).standard_normal((40, 3, 8, 8)).astype(np.float16)
    np.savez(tmp_path / "data.npz", x=feed)
    optkit.quantize(path, tmp_path / "small.onnx", method=method, calibration=tmp_path / "data.npz", measure=False)
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "small.onnx").graph.initializer}
    assert TensorProto.INT8 in kinds
    np.testing.assert_allclose(answers(tmp_path / "small.onnx", feed), answers(path, feed), atol=0.1)
