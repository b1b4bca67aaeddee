"""What a logarithm is taken of: there small values count as much as large ones, and equal steps lose them."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.formats.operators import family
from optkit.taps import LAYERS, Point

_PASSING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Abs", "Relu", "Clip", "Max", "ReduceSum", "ReduceMean", "ReduceMax",
    "Subtract", "Multiply", "Divide", "Power", "Clamp",
)  # fmt: skip
"""Operators, of ONNX and OpenVINO, that give small values for small ones; a Softmax, say, does not."""


def ahead(found: Sequence[Point]) -> dict[str, str]:
    """The tensors out of which a logarithm's input is made, each with the name of that logarithm."""
    leading: dict[str, str] = {}
    for point in reversed(found):
        if point.operator == "Log":
            leading |= dict.fromkeys(point.inputs, point.name)
        elif point.operator in (*LAYERS, *_PASSING) or family(point.operator) == "layout":
            logarithm = next((leading[name] for name in point.outputs if name in leading), None)
            if logarithm is not None:
                leading = dict.fromkeys(point.inputs, logarithm) | leading
    return leading


def behind(found: Sequence[Point]) -> set[str]:
    """The tensors made of a logarithm with no layer between."""
    made: set[str] = set()
    for point in found:
        if point.operator == "Log" or (point.operator not in LAYERS and not made.isdisjoint(point.inputs)):
            made |= set(point.outputs)
    return made
