"""Embedding tables in INT8 with a scale per row: rows are looked up as integers and dequantized afterwards."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from optkit.formats.onnx.nodes import walk
from optkit.notes import Note
from optkit.quantization.quantizer import Request

_MIN_ELEMENTS = 1024
"""Fewest elements of a table for which the additional operators pay off."""


def quantize(proto: Any, request: Request) -> tuple[Note, ...]:
    """Quantize the tables of ``Gather`` nodes to INT8 in place, and return a note.

    onnxruntime's quantizers leave them in float or give the whole table one scale.
    """
    tables = _tables(proto, request)
    for name, nodes in tables.items():
        _replace(proto, name, nodes)
    if not tables:
        return ()
    return (Note(f"{len(tables)} embedding tables in INT8, a scale for each row"),)


def _tables(proto: Any, request: Request) -> dict[str, list[Any]]:
    """Map float tables to the nodes that look rows up in them, excluding tables with other readers."""
    large = {tensor.name for tensor in proto.graph.initializer if _is_table(tensor)}
    found: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        if node.op_type == "Gather" and node.input[0] in large and _axis(node) == 0 and not request.excludes(node):
            found.setdefault(node.input[0], []).append(node)
    uses = Counter(name for node in walk(proto) for name in node.input)
    uses.update(value.name for value in proto.graph.output)
    return {name: nodes for name, nodes in found.items() if uses[name] == len(nodes)}


def _is_table(tensor: Any) -> bool:
    return tensor.data_type == tensor.FLOAT and len(tensor.dims) == 2 and int(np.prod(tensor.dims)) >= _MIN_ELEMENTS


def _axis(node: Any) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _replace(proto: Any, name: str, nodes: list[Any]) -> None:
    from onnx import numpy_helper

    tensor = next(each for each in proto.graph.initializer if each.name == name)
    rows = numpy_helper.to_array(tensor)
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / 127
    integers = np.rint(rows / scale).astype(np.int8)
    proto.graph.initializer.remove(tensor)
    proto.graph.initializer.extend(
        [numpy_helper.from_array(integers, f"{name}_int8"), numpy_helper.from_array(scale, f"{name}_scale")]
    )
    for node in nodes:
        position = list(proto.graph.node).index(node)
        proto.graph.node.remove(node)
        for offset, part in enumerate(_looked_up(node, name)):
            proto.graph.node.insert(position + offset, part)


def _looked_up(node: Any, table: str) -> list[Any]:
    """Return nodes that gather integers and scales and multiply them; their output replaces the float ``Gather``'s."""
    from onnx import TensorProto, helper

    rows, output, name = node.input[1], node.output[0], node.name
    return [
        helper.make_node("Gather", [f"{table}_int8", rows], [f"{output}_int8"], f"{name}_int8", axis=0),
        helper.make_node("Gather", [f"{table}_scale", rows], [f"{output}_scale"], f"{name}_scale", axis=0),
        helper.make_node("Cast", [f"{output}_int8"], [f"{output}_float"], f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}_float", f"{output}_scale"], [output], f"{name}_scaled"),
    ]
