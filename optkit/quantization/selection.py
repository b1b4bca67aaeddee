"""The nodes that a quantizing method takes, and notes on those that it leaves in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optkit.errors import StageError
from optkit.formats.onnx.nodes import walk
from optkit.notes import Note
from optkit.quantization.quantizer import Request

QUANTIZABLE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators whose integer kernels win; operators between them are cheaper left in float than converted twice."""
RECURRENT = ("LSTM", "GRU", "RNN")
"""Operators with weights that few methods know."""
_ABSORBED = ("Relu", "Clip")
"""Integers of the right range cut values off by themselves; ranges taken before the cut would waste theirs."""


def weighted_nodes(proto: Any, operators: tuple[str, ...] = QUANTIZABLE) -> list[Any]:
    """Return the main graph's nodes of these operators whose second input is a constant weight."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [
        node
        for node in proto.graph.node
        if node.op_type in operators and len(node.input) > 1 and node.input[1] in weights
    ]


def absorbed(proto: Any, chosen: list[Any]) -> list[Any]:
    """Relu and Clip behind a chosen node, one or several."""
    outputs, found = {node.output[0] for node in chosen}, []
    for node in proto.graph.node:  # in the order in which they are computed
        if node.op_type in _ABSORBED and node.input[0] in outputs:
            found.append(node)
            outputs.add(node.output[0])
    return found


def nothing_to_quantize(method: str, proto: Any, operators: Sequence[str], request: Request, hint: str) -> StageError:
    """The error of a method that finds none of these operators with constant weights, or is to leave them all alone."""
    if any(request.excludes(node) for node in weighted_nodes(proto, tuple(operators))):
        return StageError(
            f"{request.model.path}: {method} has nothing to do: every layer that it knows is excluded",
            hint="exclude fewer",
        )
    *others, last = operators
    named = f"{', '.join(others)} or {last}"
    inside = sum(node.op_type in operators for node in walk(proto)) - _count(proto.graph, operators)
    where = f"; {inside} lie in branches or loops, where it does not look" if inside else ""
    return StageError(f"{request.model.path}: {method} finds no {named} with constant weights{where}", hint=hint)


def _count(part: Any, operators: Sequence[str]) -> int:
    return sum(node.op_type in operators for node in part.node)


def kept_in_float(proto: Any, chosen: list[Any], request: Request) -> tuple[Note, ...]:
    """Return notes on operators with weights or integer kernels that stay in float, and why."""
    names = {node.name for node in chosen}
    reasons: dict[str, int] = {}
    for node in walk(proto):
        if node.op_type not in (*QUANTIZABLE, *RECURRENT) or node.name in names:
            continue
        why = "asked for with exclude" if request.excludes(node) else "not of this method, or without a constant weight"
        reasons[f"{node.op_type} kept in float: {why}"] = reasons.get(f"{node.op_type} kept in float: {why}", 0) + 1
    return tuple(Note(f"{count} x {reason}") for reason, count in reasons.items())
