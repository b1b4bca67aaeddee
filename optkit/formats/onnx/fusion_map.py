"""The map from the operators of an optimized ONNX graph to the nodes of the model's file that were fused into them.

Runtimes fuse nodes and rename them, but most tensors between operators keep their names. So the nodes of an operator
are found from its outputs back to the outputs of other operators. Where a tensor was renamed, the operator's own name
contains that of its first node, and the elementwise nodes that follow directly were fused into it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optkit.formats.operators import WEIGHTED, Operator, family, plain

if TYPE_CHECKING:
    import onnx

_CAST_AWAY = "InsertedPrecisionFreeCast_"
"""Prefix that ONNX Runtime gives to the name of a float16 tensor that it computes in float32."""
_RENAMED = re.compile(rf"^(fused |{_CAST_AWAY})*(?P<name>.+?)(?P<blocked>_nchwc)?(_token_\d+|_\d+)?$")
"""Operator names of ONNX Runtime: a node's name, or its output's in a blocked layout, with prefixes and suffixes."""
_LAYOUT_CHANGES = ("ReorderInput", "ReorderOutput", "Transpose")
"""Operators that optimizers add to change the layout of a tensor."""
_TRIVIAL = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Identity", "Cast", "Constant")
"""Nodes that do not identify a layer: several layers may share them."""


@dataclass(frozen=True)
class Covered:
    """An operator of the optimized graph with the nodes of the file that were fused into it."""

    name: str
    kind: str
    """Its operator type."""
    layers: tuple[str, ...]
    """Names of the nodes of the file, those with much arithmetic first."""
    tensors: tuple[str, ...]
    """Outputs of these nodes in the file."""
    sources: tuple[str, ...]
    """Names of the operators of the optimized graph that feed it."""


def map_operators(source: onnx.ModelProto, executed: onnx.ModelProto) -> list[Covered]:
    """Map each operator of ``executed`` to the nodes of ``source`` fused into it, in order of execution.

    Every source node belongs to one operator at most.
    """
    return list(_FusionMap(source, executed).covered())


def node_name(node: onnx.NodeProto) -> str:
    """Return a node's name, or its first output's if it has none (OpenVINO does the same)."""
    return str(node.name or next(iter(node.output), ""))


def constants(graph: onnx.GraphProto) -> set[str]:
    """Find the tensors that are the same in every inference: initializers, and values computed from them alone."""
    found = {str(tensor.name) for tensor in graph.initializer}
    for node in graph.node:
        if all(name in found for name in node.input if name) and not node.op_type.startswith("Random"):
            found |= {str(name) for name in node.output if name}
    return found


def add_fused_nodes(source: onnx.ModelProto, operators: Sequence[Operator]) -> list[Operator]:
    """Add to ``operators`` the nodes of ``source`` that the runtime fused into them without naming them.

    OpenVINO names a fused chain by its last node only. So a node that no operator names is added to the operator that
    consumes its output.
    """
    named = {node_name(node): node for node in source.graph.node}
    makers = {name: node for node in source.graph.node for name in node.output if name}
    fixed = constants(source.graph)
    owned: list[list[onnx.NodeProto]] = []
    for operator in operators:
        known_as = () if operator.family == "conversion" else (*map(plain, operator.layers), *operator.tensors)
        owned.append([node for name in known_as if (node := named.get(name, makers.get(name))) is not None])
    taken = {id(node) for nodes in owned for node in nodes}
    found = []
    for operator, nodes in zip(operators, owned, strict=True):
        added = list(_unnamed(nodes, makers, fixed, taken))
        tensors = (str(name) for node in added for name in node.output if name)
        layers = (*operator.layers, *map(node_name, added))
        found.append(replace(operator, layers=layers, tensors=(*operator.tensors, *tensors)))
    return found


def _unnamed(
    nodes: Sequence[onnx.NodeProto], makers: dict[str, onnx.NodeProto], fixed: set[str], taken: set[int]
) -> Iterator[onnx.NodeProto]:
    """Walk back from ``nodes`` over nodes not in ``taken``, as far as weighted ones, and add them to ``taken``."""
    waiting = [name for node in nodes for name in node.input]
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in fixed or family(node.op_type) in WEIGHTED:
            continue
        if id(node) not in taken:
            taken.add(id(node))
            waiting += node.input
            yield node


class _FusionMap:
    """The source graph, the executed graph, and the source tensor (``_same``) of each tensor of the executed graph."""

    def __init__(self, source: onnx.ModelProto, executed: onnx.ModelProto) -> None:
        self._nodes = list(executed.graph.node)
        self._executed = {node.name for node in self._nodes}
        self._names = {node.name: node for node in source.graph.node if node.name}
        self._producers = {name: node for node in source.graph.node for name in node.output if name}
        self._takers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in source.graph.node:
            for name in set(node.input):
                self._takers[name].append(node)
        self._constants = constants(source.graph)
        self._computed = {str(value.name) for value in source.graph.input} | self._constants
        self._makers = {name: node for node in self._nodes for name in node.output if name}
        self._same: dict[str, str] = {}
        self._taken: set[int] = set()
        self._find_unchanged()
        self._find_renamed()

    def covered(self) -> Iterator[Covered]:
        for node in self._nodes:
            outputs = [self._same[name] for name in node.output if name in self._same]
            nodes = self._fused_nodes(outputs, weighted=family(node.op_type) in WEIGHTED)
            layers = [each for each in nodes if each.op_type not in _TRIVIAL] or nodes
            layers.sort(key=lambda each: family(each.op_type) not in WEIGHTED)
            yield Covered(
                name=str(node.name),
                kind=str(node.op_type),
                layers=tuple(node_name(each) for each in layers),
                tensors=tuple(str(name) for each in layers for name in each.output if name),
                sources=tuple(node_name(self._makers[name]) for name in node.input if name in self._makers),
            )

    def _find_unchanged(self) -> None:
        """Match the tensors that kept their names, and the inputs of layout changes that lead to such a tensor."""
        kept = {name: name.removeprefix(_CAST_AWAY) for name in self._makers}
        self._same = {name: own for name, own in kept.items() if own in self._producers}
        for node in reversed(self._nodes):
            if node.op_type in _LAYOUT_CHANGES and node.name not in self._names and node.output[0] in self._same:
                self._same.setdefault(node.input[0], self._same[node.output[0]])
        self._ends = set(self._same.values())

    def _find_renamed(self) -> None:
        """Match all other tensors, in order of execution: a fused node reads only values computed before."""
        for node in self._nodes:
            for place, name in enumerate(name for name in node.output if name):
                if name not in self._same:
                    self._same[name] = self._tensor(node, name, place)
                self._computed.add(self._same[name])
        self._ends = set(self._same.values())

    def _tensor(self, node: onnx.NodeProto, name: str, place: int) -> str:
        renamed = _RENAMED.match(node.name)
        origin = renamed["name"] if renamed else ""
        if renamed and renamed["blocked"] and origin in self._producers:
            return self._last_fused(origin)
        named = self._names.get(node.name) or self._names.get(origin)
        if named is not None and place < len(named.output):
            return self._last_fused(named.output[place])
        if node.op_type in _LAYOUT_CHANGES:
            return self._same.get(node.input[0], str(node.input[0]))
        return name

    def _last_fused(self, tensor: str) -> str:
        """Follow ``tensor`` through the nodes fused behind it and return the last output.

        A node is fused if it alone takes the tensor, is no operator of its own and reads no value computed later.
        """
        while True:
            self._computed.add(tensor)
            takers = self._takers[tensor]
            if len(takers) != 1 or not self._fusible(takers[0]):
                return tensor
            tensor = str(takers[0].output[0])

    def _fusible(self, node: onnx.NodeProto) -> bool:
        simple = node.op_type in _TRIVIAL or family(node.op_type) == "elementwise"
        elsewhere = bool(node.name) and node.name in self._executed
        known = all(name in self._computed for name in node.input if name)
        return simple and known and not elsewhere and not self._ends & set(node.output)

    def _fused_nodes(self, outputs: Sequence[str], *, weighted: bool) -> list[onnx.NodeProto]:
        """Collect the nodes that compute ``outputs`` from the outputs of other operators, first ones first.

        Nodes with much arithmetic (weighted ones) are taken for an operator that is ``weighted`` itself only.
        """
        found: list[onnx.NodeProto] = []
        waiting = list(outputs)
        while waiting:
            node = self._producers.get(waiting.pop())
            if node is None or id(node) in self._taken or (family(node.op_type) in WEIGHTED and not weighted):
                continue
            self._taken.add(id(node))
            found.append(node)
            waiting += [name for name in node.input if name not in self._ends and name not in self._constants]
        return found[::-1]
