"""Correspondence of ONNX nodes and OpenVINO operations.

OpenVINO's frontend gives the node's name to the last operation that it makes of the node: for a Conv with a bias to an
Add, while the convolution is called ``NAME/WithoutBiases``. The node's output tensor always keeps its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.quantization.preparation import prepared, simplified
from optkit.quantization.quantizer import known_as
from optkit.quantization.selection import QUANTIZABLE
from optkit.system.native import Engine

WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_BETWEEN = (
    "Add", "Subtract", "Multiply", "Divide", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Convert", "Relu", "Clamp",
)  # fmt: skip
"""Operations that the frontend puts behind a product to make a Conv or Gemm of it, or that were fused into the node."""


def operations(names: Iterable[str], model: Model, network: Any, workdir: Path) -> dict[str, tuple[str, ...]]:
    """Map each name to the names of the operations in ``network``, OpenVINO's graph of the same model.

    A name is that of an operation, of an ONNX node (also of the graph as simplified for static INT8 with onnxruntime),
    or an ONNX operator, which means all its nodes. The tuple is empty if the network has no such operation.
    """
    wanted = tuple(names)
    if not wanted:
        return {}
    finder = _Finder(network)
    nodes = _nodes(wanted, model, workdir, finder) if model.format == "onnx" else {}
    return {name: _unique([*finder.named(name), *_of_nodes(nodes.get(name, []), finder)]) for name in wanted}


def _of_nodes(nodes: Iterable[Any], finder: _Finder) -> Iterator[str]:
    for node in nodes:
        yield from finder.of_node(node)


def _nodes(names: tuple[str, ...], model: Model, workdir: Path, finder: _Finder) -> Mapping[str, list[Any]]:
    """Map each name to its ONNX nodes; the graph is simplified only for names that are found nowhere else."""
    found = _matching(names, prepared(model).proto)
    missing = tuple(name for name in names if not found[name] and not finder.named(name))
    if missing:
        path, _ = simplified(model, workdir, Engine())
        found |= _matching(missing, graph.load(path))
    return found


def _matching(names: tuple[str, ...], proto: Any) -> dict[str, list[Any]]:
    return {name: [node for node in proto.graph.node if name in known_as(node)] for name in names}


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


class _Finder:
    """Index of operations by name and by output tensor."""

    def __init__(self, network: Any) -> None:
        self._operations = {each.get_friendly_name(): each for each in network.get_ops()}
        self._givers = {
            name: each for each in self._operations.values() for port in each.outputs() for name in port.get_names()
        }

    def named(self, name: str) -> list[str]:
        """Return the operation of that name, or those of that type."""
        if name in self._operations:
            return [name]
        return [found for found, each in self._operations.items() if each.get_type_name() == name]

    def of_node(self, node: Any) -> list[str]:
        """Return the operations of an ONNX node; for a Conv or a matrix product, the one with the weight too."""
        own = [node.name] if node.name in self._operations else []
        if node.op_type not in QUANTIZABLE:
            return own or self._giving(node)
        if own and self._operations[node.name].get_type_name() in WEIGHTED:
            return own
        product = next(filter(None, (self._product(self._givers.get(name)) for name in node.output)), None)
        return [*own, product] if product else own + self._below(node.name)

    def _giving(self, node: Any) -> list[str]:
        return [self._givers[name].get_friendly_name() for name in node.output if name in self._givers]

    def _below(self, name: str) -> list[str]:
        return [
            found
            for found, each in self._operations.items()
            if name and found.startswith(f"{name}/") and each.get_type_name() in WEIGHTED
        ]

    def _product(self, operation: Any) -> str | None:
        """Return the nearest convolution or product before ``operation``, along its only non-constant input."""
        while operation is not None and operation.get_type_name() not in WEIGHTED:
            sources = [port.get_node() for port in operation.input_values() if not constant(port.get_node())]
            if operation.get_type_name() not in _BETWEEN or len(sources) != 1:
                return None
            operation = sources[0]
        return None if operation is None else str(operation.get_friendly_name())


def constant(operation: Any) -> bool:
    """Return True if the operation depends on constants only."""
    if operation.get_type_name() == "Parameter":
        return False
    inputs = operation.input_values()
    return operation.get_type_name() == "Constant" or bool(inputs and all(constant(p.get_node()) for p in inputs))
