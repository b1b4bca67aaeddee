"""Half precision made single: CPUs compute in float32 anyway, and quantizers look for weights in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optkit.formats.onnx.nodes import graphs, tensors, walk

if TYPE_CHECKING:
    import onnx

_INSIDE = "_single"
"""What the name of a graph's own input or output gets added inside, where it is float32."""


def widened(proto: onnx.ModelProto) -> int:
    """Make float16 tensors, casts and subgraphs float32, in place; how many tensors were float16.

    The graph's own inputs and outputs keep their dtypes, behind casts.
    """
    from onnx import TensorProto

    halves = [tensor for tensor in tensors(proto) if tensor.data_type == TensorProto.FLOAT16]
    if not halves:
        return 0
    for tensor in halves:
        _widen(tensor)
    for node in walk(proto):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    for graph in graphs(proto):
        del graph.value_info[:]
        filled = {tensor.name for tensor in graph.initializer}
        for value in (*graph.input, *graph.output):
            if _is_half(value) and (graph is not proto.graph or value.name in filled):
                value.type.tensor_type.elem_type = TensorProto.FLOAT
    _cast_at_the_ends(proto)
    _fold_casts(proto)
    return len(halves)


def _widen(tensor: Any) -> None:
    import numpy as np
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _is_half(value: Any) -> bool:
    from onnx import TensorProto

    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT16)


def _cast_at_the_ends(proto: Any) -> None:
    from onnx import TensorProto, helper

    given = [value.name for value in proto.graph.input if _is_half(value)]
    wanted = [value.name for value in proto.graph.output if _is_half(value)]
    inside = {name: f"{name}{_INSIDE}" for name in (*given, *wanted)}
    for node in walk(proto):
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = inside.get(name, name)
    casts = [
        helper.make_node("Cast", [name], [inside[name]], f"{name}_widened", to=TensorProto.FLOAT) for name in given
    ]
    nodes = [*casts, *map(_copied, proto.graph.node)]
    nodes += [
        helper.make_node("Cast", [inside[name]], [name], f"{name}_narrowed", to=TensorProto.FLOAT16) for name in wanted
    ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _fold_casts(proto: Any) -> None:
    """Leave out the casts of weights to what they are now: a quantizer looks for weights, not for what makes them."""
    from onnx import TensorProto

    singles = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    returned = {value.name for value in proto.graph.output}
    spare = {
        node.output[0]: node.input[0]
        for node in proto.graph.node
        if node.op_type == "Cast"
        and node.input[0] in singles
        and node.output[0] not in returned
        and any(each.name == "to" and each.i == TensorProto.FLOAT for each in node.attribute)
    }
    kept = [_copied(node) for node in proto.graph.node if not (node.output and node.output[0] in spare)]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    for node in walk(proto):
        for place, name in enumerate(node.input):
            node.input[place] = spare.get(name, name)


def _copied(node: Any) -> Any:
    return type(node).FromString(node.SerializeToString())
