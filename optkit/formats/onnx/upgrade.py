"""Old graphs raised to the opset that stages work on, weights moved from constants to initializers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optkit.errors import StageError
from optkit.formats.onnx.nodes import DEFAULT_DOMAINS, walk_graphs
from optkit.system import native

if TYPE_CHECKING:
    import onnx
from optkit.formats.onnx.graph import EMBEDDED_LIMIT, OPSET, opset_of, weight_bytes

_IR_VERSION = 8
"""IR version of opset 17; from 4 on initializers need not be inputs too."""


def upgrade(proto: onnx.ModelProto, opset: int = OPSET) -> tuple[onnx.ModelProto, bool]:
    """Convert the model to ``opset``, unless it has that or a later one; return it, and True if it changed.

    A model that cannot be converted comes back as it was: compare ``graph.opset_of`` with ``opset``.
    """
    if opset_of(proto) >= opset:
        return proto, False
    converted = _converted(proto, opset)
    return (proto, False) if converted is None else (converted, True)


def _converted(proto: onnx.ModelProto, opset: int) -> Any:
    import onnx
    from onnx import checker, version_converter

    if weight_bytes(proto) > EMBEDDED_LIMIT:
        return None
    source = onnx.ModelProto()
    source.CopyFrom(proto)
    source.ir_version = max(source.ir_version, _IR_VERSION)
    _keep_initializers_from_inputs(source)
    try:
        with native.foreign("onnx cannot convert the model"):
            converted = version_converter.convert_version(source, opset)
            checker.check_model(converted)
    except StageError:  # the model stays as it is
        return None
    return converted


def _keep_initializers_from_inputs(proto: onnx.ModelProto) -> None:
    """Remove initializers from the inputs, where IR versions before 4 put them: runtimes take those for variables."""
    filled = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in filled]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def constants_to_initializers(proto: onnx.ModelProto) -> int:
    """Turn ``Constant`` nodes with a tensor into initializers of their graph, in place; return their number."""
    return sum(_constants_to_initializers(graph) for graph in walk_graphs(proto))


def _constants_to_initializers(graph: onnx.GraphProto) -> int:
    returned = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        tensor = None if node.output[:1] and node.output[0] in returned else constant_value(node)
        if tensor is None:
            kept.append(node)
            continue
        added = graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = node.output[0]
    moved = len(graph.node) - len(kept)
    if moved:
        del graph.node[:]
        graph.node.extend(kept)
    return moved


def constant_value(node: onnx.NodeProto) -> Any:
    """Return the tensor of a ``Constant`` node; ``None`` for other nodes, strings and sparse values."""
    import numpy as np
    from onnx import helper, numpy_helper

    if node.op_type != "Constant" or node.domain not in DEFAULT_DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    dtypes = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    if attribute.name not in dtypes:
        return None
    return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), dtypes[attribute.name]))
