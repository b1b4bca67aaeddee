"""Half precision made float32: CPUs compute in float32 anyway, and quantizers look for float32 weights."""

from __future__ import annotations

from typing import Any

from optkit.formats.onnx.nodes import walk, walk_graphs, walk_tensors
from optkit.quantization.half.cast import FLOAT, FLOAT16, rename_outer, set_elem_type, to_float32

_INSIDE = "_single"
"""Suffix of the float32 tensor behind an input, or before an output, of the graph."""


def widen(proto: Any) -> int:
    """Make float16 tensors, casts and subgraphs float32, in place; return the number of float16 constants.

    The graph's own inputs and outputs keep their dtypes, with casts behind and before them.
    """
    halves = [tensor for tensor in walk_tensors(proto) if tensor.data_type == FLOAT16.elem_type]
    if not halves:
        return 0
    for tensor in halves:
        tensor.CopyFrom(to_float32(tensor))
    for node in walk(proto):
        set_elem_type(node, FLOAT16.elem_type, FLOAT, to_float32)
    for graph in walk_graphs(proto):
        del graph.value_info[:]
        filled = {tensor.name for tensor in graph.initializer}
        for value in (*graph.input, *graph.output):
            if _is_half(value) and (graph is not proto.graph or value.name in filled):
                value.type.tensor_type.elem_type = FLOAT
    _cast_inputs_and_outputs(proto.graph)
    _fold_casts(proto.graph)
    return len(halves)


def _is_half(value: Any) -> bool:
    return bool(value.type.tensor_type.elem_type == FLOAT16.elem_type)


def _cast_inputs_and_outputs(graph: Any) -> None:
    from onnx import helper

    given = [value.name for value in graph.input if _is_half(value)]
    wanted = [value.name for value in graph.output if _is_half(value)]
    single = {name: f"{name}{_INSIDE}" for name in (*given, *wanted)}
    for node in graph.node:
        _read(node, single)
        node.output[:] = [single.get(name, name) for name in node.output]
    before = [helper.make_node("Cast", [name], [single[name]], f"{name}_widened", to=FLOAT) for name in given]
    after = [
        helper.make_node("Cast", [single[name]], [name], f"{name}_narrowed", to=FLOAT16.elem_type) for name in wanted
    ]
    _replace_nodes(graph, [*before, *graph.node, *after])


def _fold_casts(graph: Any) -> None:
    """Remove casts of weights to float32, which they are now: a quantizer looks for weights as inputs of layers."""
    singles = {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT}
    returned = {value.name for value in graph.output}
    spare = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast"
        and node.input[0] in singles
        and node.output[0] not in returned
        and any(each.name == "to" and each.i == FLOAT for each in node.attribute)
    }
    kept = [node for node in graph.node if not (node.output and node.output[0] in spare)]
    for node in kept:
        _read(node, spare)
    _replace_nodes(graph, kept)


def _read(node: Any, names: dict[str, str]) -> None:
    """Have a node and its subgraphs read renamed tensors."""
    rename_outer(node, names)
    node.input[:] = [names.get(name, name) for name in node.input]


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
