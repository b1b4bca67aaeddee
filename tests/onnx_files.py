"""Small ONNX files made in tests, and what is in one."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from optkit.formats.onnx import fusion_map


def save(path, nodes, inputs, outputs, weights=None, opset=17):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


def nodes_of(path, *kinds):
    return {fusion_map.node_name(node) for node in onnx.load(path).graph.node if node.op_type in kinds}
