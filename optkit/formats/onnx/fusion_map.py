"""Which nodes of a model's file each operator of an optimized ONNX graph is.

Runtimes fuse nodes and rename them, but what goes from one operator to the next mostly keeps its tensor's name. So an
operator is the nodes from its outputs back to what other operators give. Where a tensor got a new name, the operator's
own name tells the node that it came from, and what follows that node at once was fused into it.
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
"""What ONNX Runtime puts before the name of a tensor in half precision that it computes in float."""
_RENAMED = re.compile(rf"^(fused |{_CAST_AWAY})*(?P<name>.+?)(?P<blocked>_nchwc)?(_token_\d+|_\d+)?$")
"""What ONNX Runtime makes of a node's name, or in a blocked layout of the name of the tensor that it makes."""
_MOVING = ("ReorderInput", "ReorderOutput", "Transpose")
"""Operators that optimizers add, and that give what they take in another layout."""
_TRIVIAL = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Identity", "Cast", "Constant")
"""Nodes that tell nothing of which layer an operator is, and that several layers may share."""


@dataclass(frozen=True)
class Covered:
    """An operator of the optimized graph: the nodes of the file that it is, their outputs, and who feeds it."""

    name: str
    kind: str
    layers: tuple[str, ...]
    tensors: tuple[str, ...]
    sources: tuple[str, ...]


def of(source: onnx.ModelProto, executed: onnx.ModelProto) -> list[Covered]:
    """The operators of ``executed`` with what they are in ``source``, in order; each node is one operator's."""
    return list(_Map(source, executed).covered())


def title(node: onnx.NodeProto) -> str:
    """A node's name; its first output's where it has none, as OpenVINO calls it then too."""
    return str(node.name or next(iter(node.output), ""))


def constants(graph: onnx.GraphProto) -> set[str]:
    """Tensors that are the same in every inference: stored, or computed from stored ones alone."""
    found = {str(tensor.name) for tensor in graph.initializer}
    for node in graph.node:
        if all(name in found for name in node.input if name) and not node.op_type.startswith("Random"):
            found |= {str(name) for name in node.output if name}
    return found


def completed(source: onnx.ModelProto, operators: Sequence[Operator]) -> list[Operator]:
    """``operators`` with the nodes of ``source`` that a runtime fused into them without saying so.

    OpenVINO names a chain that became one operator by its last node. So nodes that no operator names belong to the one
    that takes what they compute.
    """
    named = {title(node): node for node in source.graph.node}
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
        layers = (*operator.layers, *map(title, added))
        found.append(replace(operator, layers=layers, tensors=(*operator.tensors, *tensors)))
    return found


def _unnamed(
    nodes: Sequence[onnx.NodeProto], makers: dict[str, onnx.NodeProto], fixed: set[str], taken: set[int]
) -> Iterator[onnx.NodeProto]:
    """The nodes before ``nodes`` that nobody has taken, up to those with much arithmetic; they are taken then."""
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


class _Map:
    """Both graphs, and which tensor of the file (a value of ``_same``) each tensor of the optimized graph is."""

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
            nodes = self._behind(outputs, weighted=family(node.op_type) in WEIGHTED)
            telling = [each for each in nodes if each.op_type not in _TRIVIAL] or nodes
            telling.sort(key=lambda each: family(each.op_type) not in WEIGHTED)
            yield Covered(
                name=str(node.name),
                kind=str(node.op_type),
                layers=tuple(title(each) for each in telling),
                tensors=tuple(str(name) for each in telling for name in each.output if name),
                sources=tuple(title(self._makers[name]) for name in node.input if name in self._makers),
            )

    def _find_unchanged(self) -> None:
        """Tensors that kept their names, and what was only moved to become one of them."""
        kept = {name: name.removeprefix(_CAST_AWAY) for name in self._makers}
        self._same = {name: own for name, own in kept.items() if own in self._producers}
        for node in reversed(self._nodes):
            if node.op_type in _MOVING and node.name not in self._names and node.output[0] in self._same:
                self._same.setdefault(node.input[0], self._same[node.output[0]])
        self._ends = set(self._same.values())

    def _find_renamed(self) -> None:
        """In the order of execution, as what an operator can have taken in was computed before it."""
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
        if node.op_type in _MOVING:
            return self._same.get(node.input[0], str(node.input[0]))
        return name

    def _last_fused(self, tensor: str) -> str:
        """What ``tensor`` has become after the nodes that are executed nowhere else and need nothing computed later."""
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

    def _behind(self, outputs: Sequence[str], *, weighted: bool) -> list[onnx.NodeProto]:
        """The nodes that compute ``outputs`` from what other operators give, the first ones first.

        Only an operator that is ``weighted`` itself can be a node with much arithmetic.
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
