"""What a model's file says of its layers, so that their times can be understood: constant weights, groups, integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optkit.formats.model import Model
from optkit.formats.onnx import fusion_map, graph
from optkit.formats.onnx import quantized as quantized_module
from optkit.formats.openvino import ir

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Layer:
    """A node of the file. ``quantized`` says that the file wants it computed in integers."""

    name: str
    kind: str
    constant_weight: bool
    depthwise: bool
    quantized: bool


@dataclass(frozen=True)
class Layers:
    """All layers by name, and how the model is quantized. An OpenVINO model tells no more than that."""

    quantized: str | None = None
    by_name: dict[str, Layer] = field(default_factory=dict)


def of(model: Model) -> Layers:
    """The layers of ``model``. Raises ModelError."""
    if model.format == "onnx":
        proto = graph.parse(model.path)
        return Layers(quantized_module.quantized(proto), _by_name(proto.graph))
    if model.format == "openvino":
        return Layers(ir.quantized(ir.read(model.path)))
    return Layers()


def _by_name(found: onnx.GraphProto) -> dict[str, Layer]:
    fixed = fusion_map.constants(found)
    makers = {name: node for node in found.node for name in node.output}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
    layers = {}
    for node in found.node:
        name = fusion_map.title(node)
        made_by = [makers[each].op_type for each in list(node.input[:2])[-1:] if each in makers]  # the weight, if any
        integers = "Integer" in node.op_type or node.op_type.startswith(("QLinear", "QGemm", "DynamicQuantize"))
        layers[name] = Layer(
            name=name,
            kind=str(node.op_type),
            constant_weight=len(node.input) > 1 and node.input[1] in fixed,
            depthwise=_depthwise(node, shapes, makers),
            quantized=integers or "DequantizeLinear" in made_by,
        )
    return layers


def _depthwise(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether each output channel of a convolution sees one input channel of several."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if groups == 1 or len(node.input) < 2:
        return False
    weight = node.input[1]
    if weight in makers and makers[weight].op_type == "DequantizeLinear":
        weight = makers[weight].input[0]
    shape = shapes.get(weight, ())
    return len(shape) < 2 or shape[1] == 1
