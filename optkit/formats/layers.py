"""Layers of a model as its file describes them: constant weight, depthwise, quantized; they help to explain times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optkit.formats.model import Model
from optkit.formats.onnx import fusion_map, graph
from optkit.formats.onnx.quantized import quantization_scheme
from optkit.formats.openvino import ir

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Layer:
    """A node of the model's file."""

    name: str
    kind: str
    """Its operator type, such as ``Conv``."""
    constant_weight: bool
    """True if its second input is the same in every inference."""
    depthwise: bool
    """True for a grouped convolution whose output channels see one input channel each."""
    quantized: bool
    """True if the file asks for integer arithmetic: an integer operator, or a weight from DequantizeLinear."""


@dataclass(frozen=True)
class Layers:
    """The layers of a model."""

    quantized: str | None = None
    """The quantization scheme of the model, such as ``static int8``; ``None`` if it is in float."""
    by_name: dict[str, Layer] = field(default_factory=dict)
    """The layers of an ONNX model; empty for other formats."""


def read_layers(model: Model) -> Layers:
    """Read the layers of ``model`` from its file. Raises ModelError."""
    if model.format == "onnx":
        proto = graph.parse(model.path)
        return Layers(quantization_scheme(proto), _by_name(proto.graph))
    if model.format == "openvino":
        return Layers(ir.quantized(ir.read(model.path)))
    return Layers()


def _by_name(found: onnx.GraphProto) -> dict[str, Layer]:
    fixed = fusion_map.constants(found)
    makers = {name: node for node in found.node for name in node.output}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
    layers = {}
    for node in found.node:
        name = fusion_map.node_name(node)
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
    """Return True if the convolution is grouped and each output channel sees one input channel."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if groups == 1 or len(node.input) < 2:
        return False
    weight = node.input[1]
    if weight in makers and makers[weight].op_type == "DequantizeLinear":
        weight = makers[weight].input[0]
    shape = shapes.get(weight, ())
    return len(shape) < 2 or shape[1] == 1
