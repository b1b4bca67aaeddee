"""Static FP8 (E4M3) for TensorRT: Q/DQ around the inputs and weights of layers, ranges from calibration data.

"FP8 Formats for Deep Learning", Micikevicius et al., 2022. GPUs compute in it from compute capability 8.9 on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optkit.errors import StageError
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.formats.onnx.upgrade import upgrade
from optkit.formats.tensors import Array
from optkit.notes import Note
from optkit.quantization import qdq
from optkit.quantization.half.convert import save_in_half
from optkit.quantization.preparation import simplified
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.quantization.selection import kept_in_float, nothing_to_quantize, weighted_nodes

_OPERATORS = ("Conv", "MatMul", "Gemm")
_OPSET = 19
"""The first opset whose QuantizeLinear makes 8-bit floats."""
_IR_VERSION = 9
_LARGEST = 448.0
"""E4M3's largest value."""
_NOTES = (
    Note("GPUs compute in fp8 from compute capability 8.9 on: compile with --compute-capability 8.9"),
    Note(
        "onnxruntime 1.32 computes such a graph wrongly unless graph_optimization_level is ORT_ENABLE_BASIC",
        level="warning",
    ),
)


@quantizing(calibrations=("minmax", "entropy", "percentile"), in_float=("ConvTranspose",))
def quantize(request: Request) -> Quantized:
    """Calibrate feed by feed, then insert the pairs. Raises StageError where nothing can be quantized."""
    path, notes = simplified(request.model, request.workdir, request.engine)
    proto = graph.load(path)
    able = [node for node in weighted_nodes(proto, _OPERATORS) if _axis(proto, node) is not None]
    chosen = [node for node in able if not request.excludes(node)]
    if not chosen:
        hint = "the model may be quantized or of another kind: optkit inspect shows its operators"
        raise nothing_to_quantize("static FP8", proto, _OPERATORS, request, hint)
    ranges = qdq.ranges(path, proto, request)
    notes += (*request.unknown(proto), *kept_in_float(proto, chosen, request), *_NOTES)
    proto, _ = upgrade(proto, _OPSET)
    if graph.opset_of(proto) < _OPSET:
        raise StageError(f"{request.model.path}: FP8 needs opset {_OPSET}, which this graph cannot be brought to")
    proto.ir_version = max(proto.ir_version, _IR_VERSION)
    _Pairs(proto, ranges).put_around({node.name for node in chosen})
    result, halved, more = save_in_half(request, proto)
    facts = {"quantized_nodes": len(chosen), "calibrate": request.options.calibrate} | more
    return Quantized(result, notes=(*notes, *halved), facts=facts)


def _axis(proto: Any, node: Any) -> int | None:
    """Return the axis of the weight's output channels; ``None`` where a layer has no such axis."""
    from onnx import helper

    if node.op_type == "Conv":
        return 0
    rank = next(len(tensor.dims) for tensor in proto.graph.initializer if tensor.name == node.input[1])
    if rank < 2:
        return None
    transposed = any(each.name == "transB" and helper.get_attribute_value(each) for each in node.attribute)
    return 0 if transposed else rank - 1


class _Pairs:
    """Puts Q/DQ pairs into a graph, one for each tensor, in the order in which they are computed."""

    def __init__(self, proto: Any, ranges: Any) -> None:
        self._proto, self._ranges = proto, ranges
        self._stored = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._done: dict[tuple[str, int | None], str] = {}

    def put_around(self, names: set[str]) -> None:
        """Around the layers called so."""
        from onnx import TensorProto, helper

        self._store(helper.make_tensor("fp8_zero", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True))
        ordered: list[Any] = []
        for node in list(self._proto.graph.node):
            axis = _axis(self._proto, node) if node.name in names else None
            if axis is not None:
                node.input[0], activation = self._activation(node.input[0])
                node.input[1], weight = self._weight(node.input[1], axis)
                ordered += [*activation, *weight]
            ordered.append(node)
        del self._proto.graph.node[:]
        self._proto.graph.node.extend(ordered)
        self._drop_unread()

    def _activation(self, name: str) -> tuple[str, list[Any]]:
        from onnx import helper, numpy_helper

        if (name, None) in self._done:
            return self._done[name, None], []
        low, high = (float(np.max(np.abs(each))) for each in self._ranges[name].range_value)
        scale, quantized, made = f"{name}_fp8_scale", f"{name}_fp8", f"{name}_from_fp8"
        self._store(numpy_helper.from_array(_scale(np.float32(max(low, high))), scale))
        self._done[name, None] = made
        return made, [
            helper.make_node("QuantizeLinear", [name, scale, "fp8_zero"], [quantized], f"{name}_QuantizeLinear"),
            helper.make_node("DequantizeLinear", [quantized, scale, "fp8_zero"], [made], f"{name}_DequantizeLinear"),
        ]

    def _weight(self, name: str, axis: int) -> tuple[str, list[Any]]:
        from onnx import TensorProto, helper, numpy_helper

        if (name, axis) in self._done:
            return self._done[name, axis], []
        values = numpy_helper.to_array(self._stored[name])
        scales = _scales(values, axis)
        stem = f"{name}_{axis}"
        spread = values / scales.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
        rounded = helper.make_tensor(f"{stem}_fp8", TensorProto.FLOAT8E4M3FN, values.shape, _float8(spread), raw=True)
        zeros = helper.make_tensor(
            f"{stem}_fp8_zero", TensorProto.FLOAT8E4M3FN, scales.shape, bytes(len(scales)), raw=True
        )
        for tensor in (rounded, zeros, numpy_helper.from_array(scales, f"{stem}_fp8_scale")):
            self._store(tensor)
        made = self._done[name, axis] = f"{stem}_from_fp8"
        inputs = [f"{stem}_fp8", f"{stem}_fp8_scale", f"{stem}_fp8_zero"]
        return made, [helper.make_node("DequantizeLinear", inputs, [made], f"{stem}_DequantizeLinear", axis=axis)]

    def _store(self, tensor: Any) -> None:
        self._proto.graph.initializer.append(tensor)

    def _drop_unread(self) -> None:
        read = {name for node in walk(self._proto) for name in node.input}
        read |= {value.name for value in self._proto.graph.output}
        for tensor in [each for each in self._proto.graph.initializer if each.name not in read]:
            self._proto.graph.initializer.remove(tensor)


def _scales(values: Array, axis: int) -> Array:
    """Return a scale for each output channel."""
    others = tuple(each for each in range(values.ndim) if each != axis)
    return _scale(np.abs(values).max(others).astype(np.float32))


def _scale(largest: Array | np.float32) -> Array:
    """Scale: the largest magnitude over E4M3's; 1 where that is zero or subnormal."""
    found = np.asarray(largest / np.float32(_LARGEST))
    return np.where(found >= np.finfo(np.float32).tiny, found, np.float32(1.0))


def _float8(values: Array) -> bytes:
    import ml_dtypes

    rounded: Array = np.clip(values, -_LARGEST, _LARGEST).astype(ml_dtypes.float8_e4m3fn)
    return rounded.tobytes()
