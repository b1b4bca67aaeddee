"""Within which limits a quantized model rounds its activations: from Q/DQ pairs of ONNX, FakeQuantize of the IR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.openvino import stable_names
from optkit.formats.tensors import Array
from optkit.quantization.openvino_nodes import WEIGHTED

_SCALING = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose", "FakeQuantize")
_SEVEN_BITS = 64
"""The largest integer of weights that were made for CPUs whose 8-bit sums saturate."""


@dataclass(frozen=True)
class Span:
    """The smallest and the largest value that a tensor can have behind its rounding."""

    tensor: str
    low: float
    high: float


def spans(model: Model) -> list[Span]:
    """The spans of all activations that are rounded within fixed limits, in the model's order."""
    found = _of_ir(stable_names.read(model.path)) if model.format == "openvino" else _of_onnx(graph.load(model.path))
    return list({span.tensor: span for span in found}.values())


def weights_in_eight_bits(model: Model) -> int:
    """How many weights of products use the whole range of 8-bit integers, so that sums of them may saturate."""
    return sum(_wide(each) for each in (_bytes_of_ir if model.format == "openvino" else _bytes_of_onnx)(model))


def _bytes_of_onnx(model: Model) -> Iterator[Array]:
    """Signed bytes but for tables, whose rows are looked up and not summed."""
    from onnx import numpy_helper

    proto = graph.load(model.path)
    tables = {node.input[0] for node in proto.graph.node if node.op_type == "Gather"}
    for tensor in proto.graph.initializer:
        if tensor.data_type == tensor.INT8 and tensor.name not in tables:
            yield numpy_helper.to_array(tensor)


def _bytes_of_ir(model: Model) -> Iterator[Array]:
    for operation in stable_names.read(model.path).get_ops():
        signed = operation.get_type_name() == "Constant" and operation.get_element_type().to_string() == "i8"
        if signed and _multiplied(operation):
            yield operation.get_data()


def _multiplied(operation: Any) -> bool:
    """Whether a constant becomes, scaled, the weight of a product."""
    readers = [port.get_node() for output in operation.outputs() for port in output.get_target_inputs()]
    kinds = {each.get_type_name() for each in readers}
    return bool(kinds & set(WEIGHTED)) or any(_multiplied(each) for each in readers if each.get_type_name() in _SCALING)


def _wide(integers: Array) -> bool:
    return integers.ndim > 1 and integers.size > 0 and int(np.abs(integers.astype(np.int16)).max()) > _SEVEN_BITS


def _of_onnx(proto: Any) -> Iterator[Span]:
    from onnx import numpy_helper

    stored = {each.name: each for each in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in stored or len(node.input) < 3:
            continue
        if not all(name in stored for name in node.input[1:3]):
            continue
        scale, zero = (numpy_helper.to_array(stored[name]) for name in node.input[1:3])
        limits = np.iinfo(zero.dtype)
        low, high = (scale.astype(np.float64) * (limit - zero.astype(np.float64)) for limit in (limits.min, limits.max))
        yield Span(node.input[0], float(low.min()), float(high.max()))


def _of_ir(network: Any) -> Iterator[Span]:
    for operation in network.get_ordered_ops():
        if operation.get_type_name() != "FakeQuantize":
            continue
        source = operation.input_value(0)
        low, high = (operation.input_value(place).get_node() for place in (1, 2))
        constant = low.get_type_name() == high.get_type_name() == "Constant"
        if source.get_names() and constant and source.get_node().get_type_name() != "Constant":
            yield Span(min(source.get_names()), float(low.get_data().min()), float(high.get_data().max()))
