"""Walking ONNX graphs whole: control flow hides operators and weights in subgraphs, functions in their bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DEFAULT_DOMAINS = ("", "ai.onnx")


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every subgraph in it and in the functions."""
    yield from _with_subgraphs(proto.graph)
    for function in proto.functions:
        for graph in _subgraphs(function.node):
            yield from _with_subgraphs(graph)


def walk(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node: of the main graph, of subgraphs and of functions."""
    for graph in graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Every subgraph of a node, those of nodes in it included."""
    for graph in _subgraphs([node]):
        yield from _with_subgraphs(graph)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: initializers and attributes (``Constant`` nodes among them), subgraphs and functions included."""
    for graph in graphs(proto):
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
    """The axis of the scales of a QuantizeLinear or DequantizeLinear; it may count from the end."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def operators(proto: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs, the most frequent first; outside ONNX's own domain as ``domain.Operator``."""
    counts = Counter(_operator(node) for node in walk(proto))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"
