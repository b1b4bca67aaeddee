"""Traversal of ONNX graphs, including the subgraphs of control-flow nodes and the bodies of functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DEFAULT_DOMAINS = ("", "ai.onnx")


def walk_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Iterate over the main graph and every subgraph in it and in the functions."""
    yield from _with_subgraphs(proto.graph)
    for function in proto.functions:
        for graph in _subgraphs(function.node):
            yield from _with_subgraphs(graph)


def walk(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Iterate over every node of the main graph, of subgraphs and of functions."""
    for graph in walk_graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Iterate over every subgraph of a node, nested ones included."""
    for graph in _subgraphs([node]):
        yield from _with_subgraphs(graph)


def walk_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Iterate over every stored tensor: initializers and attributes (``Constant`` nodes), also of subgraphs and
    functions.
    """
    for graph in walk_graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in walk(proto):
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for each in (*sparse, *attribute.sparse_tensors):
        yield from (each.values, each.indices)


def _with_subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for inner in _subgraphs(graph.node):
        yield from _with_subgraphs(inner)


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def scales_axis(node: onnx.NodeProto) -> int:
    """Return the axis of the scales of a QuantizeLinear or DequantizeLinear; negative axes count from the end."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def count_operators(proto: onnx.ModelProto) -> dict[str, int]:
    """Count the nodes of each operator type, the most frequent first; ``domain.Operator`` outside ONNX's own domain."""
    counts = Counter(_operator(node) for node in walk(proto))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"
