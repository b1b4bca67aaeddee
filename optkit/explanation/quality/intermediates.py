"""Tensors inside a model made visible: a copy of an ONNX model or an IR that also yields them.

Between two models of one origin, quantized or not, tensors correspond by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.openvino import stable_names
from optkit.formats.operators import family
from optkit.formats.tensors import Signature, TensorSpec
from optkit.quantization.openvino_nodes import WEIGHTED, constant
from optkit.quantization.preparation import prepared
from optkit.quantization.selection import QUANTIZABLE

LAYERS = (*QUANTIZABLE, *WEIGHTED)
"""The operators of layers, in ONNX and in OpenVINO."""


_FARTHEST = 4
"""How many operators behind a layer its tensor may be looked for: what a fusion into the layer swallows."""


_SINGLE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "BatchNormalization", "Reshape", "Squeeze", "Unsqueeze", "Cast",
    "Subtract", "Multiply", "Divide", "Clamp", "Convert",
)  # fmt: skip
"""Operators, of ONNX and OpenVINO, that a runtime or an exporter makes part of a layer."""


@dataclass(frozen=True)
class Point:
    """An operation: its name, its operator, its number in the order of execution, and the tensors to and from it.

    ``fragile`` are products of two activations in an IR: made to yield its tensor, OpenVINO 2026.4 computes something
    else behind it in quantized models.
    """

    name: str
    operator: str
    depth: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fragile: bool = False


@dataclass(frozen=True)
class Layer:
    """An operation with a product, and the tensor at or behind it by which two models are compared."""

    point: Point
    tensor: str
    before: tuple[str, ...] = ()
    """The tensors of the layers that lead to it, with none between."""


@dataclass(frozen=True)
class Tapped:
    """A copy of a model that yields more: ``outputs`` says under which name it yields each tensor."""

    model: Model
    outputs: Mapping[str, str]


def points(model: Model) -> list[Point]:
    """The operations of a model, in order. Tensors of the IR without a name are called by their operation's."""
    return _points_of_ir(stable_names.read(model.path)) if model.format == "openvino" else _points_of_onnx(model)


def tensors(found: Iterable[Point]) -> set[str]:
    """The names of all tensors that are computed and can be made visible."""
    return {name for point in found if not point.fragile for name in point.outputs}


def layers(found: list[Point], shared: set[str]) -> tuple[list[Layer], int]:
    """The layers with the first of their tensors that is in ``shared``; and how many have none there."""
    uses = Counter(name for point in found for name in point.inputs)
    readers = {name: point for point in found for name in point.inputs if uses[name] == 1}
    every = [point for point in found if point.operator in LAYERS]
    pairs = [(point, _first_shared(point, readers, shared)) for point in every]
    matched = [Layer(point, tensor) for point, tensor in pairs if tensor is not None]
    return _with_sources(matched, found), len(every) - len(matched)


def tapped(model: Model, names: Iterable[str], folder: Path) -> Tapped:
    """A copy below ``folder`` that also yields the tensors of these names, as far as it has them."""
    if model.format == "openvino":
        return _tapped_ir(model, tuple(names), folder)
    return _tapped_onnx(model, tuple(names), folder)


def _first_shared(point: Point, readers: Mapping[str, Point], shared: set[str]) -> str | None:
    for _ in range(_FARTHEST):
        found = next((name for name in point.outputs if name in shared), None)
        if found is not None:
            return found
        behind = readers.get(point.outputs[0]) if point.outputs else None
        if behind is None or behind.operator not in _SINGLE:
            return None
        point = behind
    return None


def _with_sources(matched: list[Layer], found: list[Point]) -> list[Layer]:
    """The layers with what leads to them, found in one pass: for each tensor the nearest layers before it."""
    chosen = {layer.tensor for layer in matched}
    sources: dict[str, tuple[str, ...]] = {}
    entering: dict[int, tuple[str, ...]] = {}
    for point in found:
        before = tuple(dict.fromkeys(name for each in point.inputs for name in sources.get(each, ())))
        entering[point.depth] = before
        for output in point.outputs:
            sources[output] = (output,) if output in chosen else before
    return [replace(layer, before=entering[layer.point.depth]) for layer in matched]


def _points_of_onnx(model: Model) -> list[Point]:
    return [
        Point(node.name, node.op_type, depth, tuple(node.input), tuple(node.output))
        for depth, node in enumerate(prepared(model).proto.graph.node)
    ]


def _points_of_ir(network: Any) -> list[Point]:
    return [
        Point(
            operation.get_friendly_name(),
            operation.get_type_name(),
            depth,
            tuple(_tensor(port) for port in operation.input_values()),
            tuple(name for port in operation.outputs() for name in (*sorted(port.get_names()), _place(port))),
            operation.get_type_name() == "MatMul" and not constant(operation.input_value(1).get_node()),
        )
        for depth, operation in enumerate(network.get_ordered_ops())
        if operation.get_type_name() not in ("Constant", "Result", "Parameter")
    ]


def _tensor(port: Any) -> str:
    return min(port.get_names(), default=_place(port))


def _place(port: Any) -> str:
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _tapped_onnx(model: Model, names: tuple[str, ...], folder: Path) -> Tapped:
    from onnx import ValueInfoProto, helper

    proto = graph.load(model.path)
    given = {value.name for value in proto.graph.output}
    there = {name for node in proto.graph.node for name in node.output} | {value.name for value in proto.graph.input}
    rounded = {node.input[0]: node for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    outputs: dict[str, str] = {}
    for number, name in enumerate(name for name in names if name in there):
        if name in given:
            outputs[name] = name
            continue
        output = name
        if name in rounded:
            # The integers themselves are asked for: the float tensor before them, and no fused kernel would remain.
            output, pair = f"optkit_tap{number}", rounded[name]
            source = [pair.output[0], *pair.input[1:]]
            axes = {each.name: each.i for each in pair.attribute if each.name == "axis"}
            proto.graph.node.append(helper.make_node("DequantizeLinear", source, [output], output, **axes))
        proto.graph.output.append(ValueInfoProto(name=output))
        outputs[name] = output
    path = folder / "tapped.onnx"
    graph.save(proto, path)
    # OpenVINO makes one of equal operations, which then bears all their names: the signature tells which is asked for.
    given_now = tuple(TensorSpec(value.name, "float32", None) for value in proto.graph.output)
    signature = model.signature and Signature(model.signature.inputs, given_now)
    return Tapped(replace(model, path=path, digest="", signature=signature), outputs)


def _tapped_ir(model: Model, names: tuple[str, ...], folder: Path) -> Tapped:
    network = stable_names.read(model.path)
    ports = {
        name: port
        for each in network.get_ops()
        for port in each.outputs()
        for name in (*port.get_names(), _place(port))
    }
    given = {_place(port) for port in network.outputs} | {_place(each.input_value(0)) for each in network.get_results()}
    outputs: dict[str, str] = {}
    for number, name in enumerate(name for name in names if name in ports):
        port = ports[name]
        if not port.get_names():
            port.get_tensor().set_names({f"optkit_tap{number}"})
        if _place(port) not in given:
            network.add_outputs([port])
            given.add(_place(port))
        outputs[name] = min(port.get_names())
    path = folder / "tapped.xml"
    stable_names.save(network, path)
    return Tapped(replace(model, path=path, digest="", signature=None), outputs)


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
