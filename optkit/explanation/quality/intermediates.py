"""Intermediate tensors of a model: a copy of an ONNX model or an OpenVINO IR with additional outputs.

In two models of one origin, quantized or not, intermediate tensors correspond by name.
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
"""Operators of layers, in ONNX and in OpenVINO."""
_FARTHEST = 4
"""Number of operators to follow from a layer to a shared tensor: as many as a runtime fuses into the layer."""
_SINGLE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "BatchNormalization", "Reshape", "Squeeze", "Unsqueeze", "Cast",
    "Subtract", "Multiply", "Divide", "Clamp", "Convert",
)  # fmt: skip
"""Operators, of ONNX and OpenVINO, that a runtime or an exporter fuses into a layer."""


@dataclass(frozen=True)
class Operation:
    """An operation of an ONNX graph or an OpenVINO IR."""

    name: str
    operator: str
    depth: int
    """Its number in the order of execution."""
    inputs: tuple[str, ...]
    """Names of the tensors that it reads."""
    outputs: tuple[str, ...]
    """Names of the tensors that it computes."""
    fragile: bool = False
    """True if its tensor must not become an output: a product of two activations in an IR, behind which OpenVINO
    2026.4 then computes something else in quantized models."""


@dataclass(frozen=True)
class ComparedLayer:
    """A convolution or matrix product, and the tensor by which it is compared between two models."""

    operation: Operation
    tensor: str
    """Its own output, or that of an operator fused into it."""
    before: tuple[str, ...] = ()
    """Tensors of the nearest layers before it."""


@dataclass(frozen=True)
class Exposed:
    """A copy of a model whose intermediate tensors are outputs."""

    model: Model
    outputs: Mapping[str, str]
    """Output name of each exposed tensor."""


def list_operations(model: Model) -> list[Operation]:
    """List the operations of a model in the order of execution.

    A nameless tensor of an IR is named after its operation and port.
    """
    if model.format == "openvino":
        return _operations_of_ir(stable_names.read(model.path))
    return _operations_of_onnx(model)


def exposable_tensors(found: Iterable[Operation]) -> set[str]:
    """Return the names of all computed tensors that can become outputs."""
    return {name for each in found if not each.fragile for name in each.outputs}


def match_layers(found: list[Operation], shared: set[str]) -> tuple[list[ComparedLayer], int]:
    """Match each layer with the first tensor at or behind it that is in ``shared``.

    Also returns the number of layers that have none.
    """
    uses = Counter(name for each in found for name in each.inputs)
    readers = {name: each for each in found for name in each.inputs if uses[name] == 1}
    every = [each for each in found if each.operator in LAYERS]
    pairs = [(each, _first_shared(each, readers, shared)) for each in every]
    matched = [ComparedLayer(each, tensor) for each, tensor in pairs if tensor is not None]
    return _with_sources(matched, found), len(every) - len(matched)


def expose(model: Model, names: Iterable[str], folder: Path) -> Exposed:
    """Write a copy of the model below ``folder`` with the named tensors as additional outputs; skip unknown names."""
    if model.format == "openvino":
        return _expose_in_ir(model, tuple(names), folder)
    return _expose_in_onnx(model, tuple(names), folder)


def _first_shared(operation: Operation, readers: Mapping[str, Operation], shared: set[str]) -> str | None:
    for _ in range(_FARTHEST):
        found = next((name for name in operation.outputs if name in shared), None)
        if found is not None:
            return found
        behind = readers.get(operation.outputs[0]) if operation.outputs else None
        if behind is None or behind.operator not in _SINGLE:
            return None
        operation = behind
    return None


def _with_sources(matched: list[ComparedLayer], found: list[Operation]) -> list[ComparedLayer]:
    """Add to each layer the nearest layers before it, in one pass over the operations."""
    chosen = {layer.tensor for layer in matched}
    sources: dict[str, tuple[str, ...]] = {}
    entering: dict[int, tuple[str, ...]] = {}
    for each in found:
        before = tuple(dict.fromkeys(source for name in each.inputs for source in sources.get(name, ())))
        entering[each.depth] = before
        for output in each.outputs:
            sources[output] = (output,) if output in chosen else before
    return [replace(layer, before=entering[layer.operation.depth]) for layer in matched]


def _operations_of_onnx(model: Model) -> list[Operation]:
    return [
        Operation(node.name, node.op_type, depth, tuple(node.input), tuple(node.output))
        for depth, node in enumerate(prepared(model).proto.graph.node)
    ]


def _operations_of_ir(network: Any) -> list[Operation]:
    return [
        Operation(
            operation.get_friendly_name(),
            operation.get_type_name(),
            depth,
            tuple(_tensor_name(port) for port in operation.input_values()),
            tuple(name for port in operation.outputs() for name in (*sorted(port.get_names()), _port_name(port))),
            operation.get_type_name() == "MatMul" and not constant(operation.input_value(1).get_node()),
        )
        for depth, operation in enumerate(network.get_ordered_ops())
        if operation.get_type_name() not in ("Constant", "Result", "Parameter")
    ]


def _tensor_name(port: Any) -> str:
    return min(port.get_names(), default=_port_name(port))


def _port_name(port: Any) -> str:
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _expose_in_onnx(model: Model, names: tuple[str, ...], folder: Path) -> Exposed:
    from onnx import ValueInfoProto, helper

    proto = graph.load(model.path)
    given = {value.name for value in proto.graph.output}
    there = {name for node in proto.graph.node for name in node.output} | {value.name for value in proto.graph.input}
    quantizing = {node.input[0]: node for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    outputs: dict[str, str] = {}
    for number, name in enumerate(name for name in names if name in there):
        if name in given:
            outputs[name] = name
            continue
        output = name
        if name in quantizing:
            # Dequantize the integers a second time: with the float tensor before them as output, no kernel is fused.
            output, pair = f"optkit_exposed{number}", quantizing[name]
            source = [pair.output[0], *pair.input[1:]]
            axes = {each.name: each.i for each in pair.attribute if each.name == "axis"}
            proto.graph.node.append(helper.make_node("DequantizeLinear", source, [output], output, **axes))
        proto.graph.output.append(ValueInfoProto(name=output))
        outputs[name] = output
    path = folder / "exposed.onnx"
    graph.save(proto, path)
    # OpenVINO merges equal operations into one that has all their names; the signature says which name is requested.
    given_now = tuple(TensorSpec(value.name, "float32", None) for value in proto.graph.output)
    signature = model.signature and Signature(model.signature.inputs, given_now)
    return Exposed(replace(model, path=path, digest="", signature=signature), outputs)


def _expose_in_ir(model: Model, names: tuple[str, ...], folder: Path) -> Exposed:
    network = stable_names.read(model.path)
    ports = {
        name: port
        for each in network.get_ops()
        for port in each.outputs()
        for name in (*port.get_names(), _port_name(port))
    }
    given = {_port_name(port) for port in network.outputs}
    given |= {_port_name(each.input_value(0)) for each in network.get_results()}
    outputs: dict[str, str] = {}
    for number, name in enumerate(name for name in names if name in ports):
        port = ports[name]
        if not port.get_names():
            port.get_tensor().set_names({f"optkit_exposed{number}"})
        if _port_name(port) not in given:
            network.add_outputs([port])
            given.add(_port_name(port))
        outputs[name] = min(port.get_names())
    path = folder / "exposed.xml"
    stable_names.save(network, path)
    return Exposed(replace(model, path=path, digest="", signature=None), outputs)


_PASSING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Abs", "Relu", "Clip", "Max", "ReduceSum", "ReduceMean", "ReduceMax",
    "Subtract", "Multiply", "Divide", "Power", "Clamp",
)  # fmt: skip
"""Operators, of ONNX and OpenVINO, whose outputs are small for small inputs; Softmax, for example, is none."""


def before_logarithms(found: Sequence[Operation]) -> dict[str, str]:
    """Map each tensor from which a logarithm's input is computed to the name of that logarithm."""
    leading: dict[str, str] = {}
    for each in reversed(found):
        if each.operator == "Log":
            leading |= dict.fromkeys(each.inputs, each.name)
        elif each.operator in (*LAYERS, *_PASSING) or family(each.operator) == "layout":
            logarithm = next((leading[name] for name in each.outputs if name in leading), None)
            if logarithm is not None:
                leading = dict.fromkeys(each.inputs, logarithm) | leading
    return leading


def behind_logarithms(found: Sequence[Operation]) -> set[str]:
    """Return the tensors computed from a logarithm with no layer in between."""
    made: set[str] = set()
    for each in found:
        if each.operator == "Log" or (each.operator not in LAYERS and not made.isdisjoint(each.inputs)):
            made |= set(each.outputs)
    return made
