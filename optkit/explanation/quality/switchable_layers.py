"""Switchable layers: one ONNX graph whose inputs choose for each layer between float and simulated INT8.

So a single session measures all layers. A layer becomes an ``If``: one branch computes as in the model, the other with
input, weight and output quantized and dequantized. The branch not taken costs nothing, and weights stay initializers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.formats.tensors import Array
from optkit.quantization import affine
from optkit.quantization.affine import Affine
from optkit.quantization.selection import absorbed, weighted_nodes

SWITCHES = "optkit_switches"
"""The graph's additional input, ``bool[layers]``: true for each layer to quantize."""
ERRORS = "optkit_errors"
"""The graph's additional output, ``float32[layers]``: relative squared error of each layer's own output."""
LOWS, HIGHS, SIZES = "optkit_lows", "optkit_highs", "optkit_sizes"
"""Outputs of the graph that measures ranges."""
_ONE = "optkit_one"
_LAST = "optkit_last"
_GIVING_INTEGERS = ("Conv", "ConvTranspose")
"""Operators whose integer kernels quantize their output; those of matrix products return floats."""
_TINY = "optkit_tiny"
_CHANNEL_OPSET = 13
"""First opset in which ``DequantizeLinear`` has an axis."""


@dataclass(frozen=True)
class SwitchableLayer:
    """A node that can be quantized, with the activation function fused into it."""

    node: Any
    depth: int
    """The node's number in the main graph."""
    weight: Array | None
    """The constant factor; ``None`` for a product of two activations."""
    behind: Any | None = None
    """The Relu or Clip behind the node that the quantized range absorbs."""
    weight_index: int = 1
    """Number of the node's input that is the weight."""

    @property
    def activations(self) -> tuple[str, ...]:
        """Names of the input tensors to quantize."""
        first, second = self.node.input[:2]
        return (first, second) if self.weight is None else (second,) if self.weight_index == 0 else (first,)

    @property
    def nncf_only(self) -> bool:
        """True if NNCF quantizes the layer and the static method for onnxruntime does not."""
        return self.weight is None or self.weight_index == 0

    @property
    def output(self) -> str:
        """Name of the layer's output tensor, behind the absorbed node if there is one."""
        return str((self.behind or self.node).output[0])

    @property
    def channels(self) -> int:
        """The weight's axis of output channels."""
        if self.weight_index == 0:
            return -2
        transposed = any(each.name == "transB" and each.i for each in self.node.attribute)
        return {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if transposed else 1}.get(self.node.op_type, -1)

    def operations(self, inputs: int, outputs: int) -> int:
        """Count multiplications from the numbers of ``inputs`` and ``outputs`` elements.

        For a product of two activations, ``inputs`` is the number of terms that each output element sums.
        """
        if self.weight is None:
            return outputs * inputs
        if not self.weight.size:
            return 0
        if self.node.op_type == "ConvTranspose":
            return int(inputs * self.weight.size // self.weight.shape[0])
        return int(outputs * self.weight.size // self.weight.shape[self.channels])


def switchable_layers(proto: Any, *, activations: bool = False) -> list[SwitchableLayer]:
    """List the main graph's float32 layers with constant weights.

    With ``activations`` also matrix products of two activations, and those whose weight is the first input.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    weighted = {node.output[0] for node in weighted_nodes(proto)}
    behind = _only_readers(proto)
    found = []
    for depth, node in enumerate(proto.graph.node):
        constant = [name for name in node.input if name in stored]
        if node.output[:1] and node.output[0] in weighted and node.input[0] not in stored:
            tensor = stored[node.input[1]]
            if tensor.data_type == tensor.FLOAT:
                found.append(SwitchableLayer(node, depth, numpy_helper.to_array(tensor), behind.get(node.output[0])))
        elif activations and node.op_type == "MatMul" and not constant:
            found.append(SwitchableLayer(node, depth, None))
        elif activations and node.op_type == "MatMul" and constant == [node.input[0]] and _matrix(stored[constant[0]]):
            found.append(SwitchableLayer(node, depth, numpy_helper.to_array(stored[constant[0]]), weight_index=0))
    return found


def _matrix(tensor: Any) -> bool:
    return bool(tensor.data_type == tensor.FLOAT and len(tensor.dims) > 1)


def _only_readers(proto: Any) -> dict[str, Any]:
    """Map the output of a weighted node to the Relu or Clip that is its only reader."""
    uses = Counter(name for node in walk(proto) for name in node.input)
    uses.update(value.name for value in proto.graph.output)
    cut = absorbed(proto, weighted_nodes(proto))
    return {node.input[0]: node for node in cut if uses[node.input[0]] == 1}


def ranged_tensors(layers: Iterable[SwitchableLayer]) -> list[str]:
    """List the activations whose ranges are needed, each once."""
    return list(dict.fromkeys(name for layer in layers for name in (*layer.activations, layer.output)))


def with_ranges(proto: Any, layers: list[SwitchableLayer]) -> Any:
    """Return a copy of the graph whose only outputs measure ranges and sizes.

    ``LOWS`` and ``HIGHS`` are the minima and maxima of ``ranged_tensors(layers)``, ``float32[tensors]``; ``SIZES`` has
    the element counts of each layer's input and output in turn, ``int64[2 * layers]``. The input of a product of two
    activations counts as the length of its summed axis.
    """
    from onnx import TensorProto, helper

    made = _copied(proto)
    _add_constant(made, _ONE, np.array([1], np.int64))
    _add_constant(made, _LAST, np.array([-1], np.int64))
    ranged, sized = ranged_tensors(layers), [name for each in layers for name in (_sized(made, each), each.output)]
    del made.graph.output[:]
    for output, operator, names, kind in (
        (LOWS, "ReduceMin", ranged, TensorProto.FLOAT),
        (HIGHS, "ReduceMax", ranged, TensorProto.FLOAT),
        (SIZES, "Size", sized, TensorProto.INT64),
    ):
        options = {} if operator == "Size" else {"keepdims": 0}
        for number, name in enumerate(names):
            made.graph.node.append(helper.make_node(operator, [name], [f"{output}_{number}_scalar"], **options))
            made.graph.node.append(
                helper.make_node("Reshape", [f"{output}_{number}_scalar", _ONE], [f"{output}_{number}"])
            )
        parts = [f"{output}_{number}" for number in range(len(names))]
        made.graph.node.append(helper.make_node("Concat", parts, [output], axis=0))
        made.graph.output.append(helper.make_tensor_value_info(output, kind, [len(names)]))
    return made


def _sized(proto: Any, layer: SwitchableLayer) -> str:
    """Name the tensor whose size to measure: the layer's input, or one as long as the summed axis of a product."""
    from onnx import helper

    source, row = layer.activations[0], f"optkit_depth{layer.depth}_row"
    if layer.weight is not None:
        return source
    proto.graph.node.extend(
        [
            helper.make_node("Shape", [source], [f"{row}_shape"]),
            helper.make_node("Gather", [f"{row}_shape", _LAST], [f"{row}_length"]),
            helper.make_node("ConstantOfShape", [f"{row}_length"], [row]),
        ]
    )
    return row


def with_switches(
    proto: Any, layers: list[SwitchableLayer], ranges: Mapping[str, Affine], *, per_channel: bool = True, bits: int = 8
) -> Any:
    """Return a copy of the graph with the input ``SWITCHES`` and the output ``ERRORS``.

    ``ranges`` are scale and zero point of each of ``ranged_tensors(layers)``; ``bits`` is the width of the weights.
    """
    from onnx import TensorProto, helper

    made = _copied(proto)
    _add_constant(made, _ONE, np.array([1], np.int64))
    _add_constant(made, _TINY, np.float32(np.finfo(np.float32).tiny))
    for number, name in enumerate(ranges):
        _add_parameters(made, _parameters(number), ranges[name])
    parameters = {name: _parameters(number) for number, name in enumerate(ranges)}
    rounding = _Rounding(parameters, per_channel and graph.opset_of(proto) >= _CHANNEL_OPSET, bits)
    ends = {layer.output: (number, layer) for number, layer in enumerate(layers)}
    inside = {layer.node.output[0] for layer in layers} - ends.keys()
    del made.graph.node[:]
    for node in proto.graph.node:
        output = node.output[0] if node.output else ""
        if output in ends:
            made.graph.node.extend(_switched(made, *ends[output], rounding))
        elif output not in inside:
            made.graph.node.append(node)
    made.graph.node.append(helper.make_node("Concat", [_error(each) for each in range(len(layers))], [ERRORS], axis=0))
    made.graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.BOOL, [len(layers)]))
    made.graph.output.append(helper.make_tensor_value_info(ERRORS, TensorProto.FLOAT, [len(layers)]))
    return made


def _copied(proto: Any) -> Any:
    """Copy the model without shapes of intermediate tensors, because some of them will disappear."""
    made = type(proto)()
    made.CopyFrom(proto)
    del made.graph.value_info[:]
    return made


def _add_constant(proto: Any, name: str, value: Any) -> None:
    from onnx import numpy_helper

    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _parameters(number: int) -> tuple[str, str]:
    return f"optkit_range{number}_scale", f"optkit_range{number}_zero"


def _add_parameters(proto: Any, names: tuple[str, str], parameters: Affine) -> None:
    _add_constant(proto, names[0], parameters.scale)
    _add_constant(proto, names[1], parameters.zero_point)


def _error(number: int) -> str:
    return f"optkit_layer{number}_error"


@dataclass(frozen=True)
class _Rounding:
    """Names of scale and zero point by activation, and the scheme of the weights."""

    parameters: Mapping[str, tuple[str, str]]
    per_channel: bool
    bits: int


def _switched(proto: Any, number: int, layer: SwitchableLayer, rounding: _Rounding) -> list[Any]:
    """Return the layer as an ``If``, preceded by the node that reads its switch."""
    from onnx import helper

    prefix = f"optkit_layer{number}"
    _add_constant(proto, f"{prefix}_number", np.array(number, np.int64))
    branches = {
        "then_branch": _quantized_branch(proto, prefix, layer, rounding),
        "else_branch": _float_branch(prefix, layer),
    }
    return [
        helper.make_node("Gather", [SWITCHES, f"{prefix}_number"], [f"{prefix}_switch"], axis=0),
        helper.make_node("If", [f"{prefix}_switch"], [layer.output, _error(number)], f"{prefix}_if", **branches),
    ]


def _float_branch(prefix: str, layer: SwitchableLayer) -> Any:
    from onnx import helper, numpy_helper

    nodes, output = _computed(layer, f"{prefix}_float", {})
    zero = numpy_helper.from_array(np.zeros(1, np.float32))
    nodes.append(helper.make_node("Constant", [], [f"{prefix}_none"], value=zero))
    return _branch(f"{prefix}_off", nodes, output, f"{prefix}_none")


def _quantized_branch(proto: Any, prefix: str, layer: SwitchableLayer, rounding: _Rounding) -> Any:
    from onnx import helper

    nodes, inputs = [], {}
    for position, name in enumerate(dict.fromkeys(layer.activations)):
        inputs[name] = f"{prefix}_input{position}"
        nodes += _rounded(name, inputs[name], rounding.parameters[name])
    if layer.weight is not None:
        inputs[layer.node.input[layer.weight_index]] = f"{prefix}_weight"
        axis = layer.channels % layer.weight.ndim if rounding.per_channel and layer.weight.ndim > 1 else None
        nodes.append(_rounded_weight(proto, prefix, layer.weight, axis, rounding.bits))
    computed, raw = _computed(layer, f"{prefix}_quantized", inputs)
    exact, wanted = _computed(layer, f"{prefix}_exact", {})
    output = f"{prefix}_output"
    if layer.node.op_type in _GIVING_INTEGERS:
        given = _rounded(raw, output, rounding.parameters[layer.output])
    else:
        given = [helper.make_node("Identity", [raw], [output])]
    nodes += [*computed, *given, *exact, *_error_of(prefix, output, wanted)]
    return _branch(f"{prefix}_on", nodes, output, f"{prefix}_ratio")


def _branch(name: str, nodes: list[Any], output: str, error: str) -> Any:
    from onnx import TensorProto, helper

    shapes: tuple[tuple[str, list[int] | None], ...] = ((output, None), (error, [1]))
    outputs = [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in shapes]
    return helper.make_graph(nodes, name, [], outputs)


def _computed(layer: SwitchableLayer, prefix: str, inputs: Mapping[str, str]) -> tuple[list[Any], str]:
    """Copy the layer's nodes with replaced inputs; also returns the name of their output."""
    raw = f"{prefix}_raw"
    nodes = [_renamed(layer.node, inputs, raw)]
    if layer.behind is None:
        return nodes, raw
    return [*nodes, _renamed(layer.behind, {layer.node.output[0]: raw}, f"{prefix}_cut")], f"{prefix}_cut"


def _renamed(node: Any, inputs: Mapping[str, str], output: str) -> Any:
    made = type(node)()
    made.CopyFrom(node)
    made.name = output
    for position, name in enumerate(node.input):
        made.input[position] = inputs.get(name, name)
    made.output[0] = output
    return made


def _rounded(source: str, output: str, parameters: tuple[str, str]) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("QuantizeLinear", [source, *parameters], [f"{output}_integers"]),
        helper.make_node("DequantizeLinear", [f"{output}_integers", *parameters], [output]),
    ]


def _rounded_weight(proto: Any, prefix: str, weight: Array, axis: int | None, bits: int) -> Any:
    """Dequantize the weight from an INT8 initializer: that takes a quarter more memory than the model, not twice."""
    from onnx import helper

    integers, parameters = affine.of_weight(weight, axis, bits)
    names = (f"{prefix}_weight_scale", f"{prefix}_weight_zero")
    _add_constant(proto, f"{prefix}_weight_integers", integers)
    _add_parameters(proto, names, parameters)
    options = {} if axis is None else {"axis": axis}
    return helper.make_node("DequantizeLinear", [f"{prefix}_weight_integers", *names], [f"{prefix}_weight"], **options)


def _error_of(prefix: str, output: str, wanted: str) -> list[Any]:
    """Compute the squared error of ``output`` over the squares of ``wanted``, as ``float32[1]``."""
    from onnx import helper

    return [
        helper.make_node("Sub", [output, wanted], [f"{prefix}_apart"]),
        helper.make_node("ReduceSumSquare", [f"{prefix}_apart"], [f"{prefix}_noise"], keepdims=0),
        helper.make_node("ReduceSumSquare", [wanted], [f"{prefix}_signal"], keepdims=0),
        helper.make_node("Max", [f"{prefix}_signal", _TINY], [f"{prefix}_safe"]),
        helper.make_node("Div", [f"{prefix}_noise", f"{prefix}_safe"], [f"{prefix}_quotient"]),
        helper.make_node("Reshape", [f"{prefix}_quotient", _ONE], [f"{prefix}_ratio"]),
    ]
