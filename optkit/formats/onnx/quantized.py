"""Detection of graphs that are quantized already, and of the scheme."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from optkit.formats.onnx.nodes import walk, walk_graphs, walk_tensors

if TYPE_CHECKING:
    import onnx
from optkit.formats.onnx.signature import dtype_name
from optkit.formats.onnx.upgrade import constant_value


def quantization_scheme(proto: onnx.ModelProto) -> str | None:
    """Describe the model's quantization (``QDQ int8 static``, ``weight-only int4 (MatMulNBits)``); ``None`` if none."""
    names = {node.op_type for node in walk(proto)}
    dynamic = sorted(name for name in names if name.startswith(_DYNAMIC) or name in _INTEGER)
    if "DynamicQuantizeLinear" in names or (dynamic and not names & {"QuantizeLinear"}):
        return f"dynamic int8 ({', '.join(dynamic)})"
    if names & _BLOCKS:
        return f"weight-only int{_block_bits(proto)} ({', '.join(sorted(names & _BLOCKS))})"
    static = sorted(name for name in names if name.startswith("QLinear") or name in _STATIC)
    if static:
        return f"static int8 ({', '.join(static)})"
    if "DequantizeLinear" not in names:
        return "float16" if _mostly_half(proto) else None
    kind = _dequantized(proto) or "int8"
    if "QuantizeLinear" not in names:
        return f"weight-only {kind} (DequantizeLinear)"
    between = _between(proto)
    return f"QDQ {kind} static, {between} between" if between else f"QDQ {kind} static"


_DYNAMIC = "DynamicQuantize"
_INTEGER = {"MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "MatMulInteger16"}
_STATIC = {"QGemm", "QAttention", "QEmbedLayerNormalization", "QMoE", "QOrderedMatMul"}
_BLOCKS = {"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}


def _block_bits(proto: onnx.ModelProto) -> int:
    bits = (item.i for node in walk(proto) for item in node.attribute if item.name == "bits")
    return max(bits, default=4)


def _dequantized(proto: onnx.ModelProto) -> str | None:
    """Return the most frequent dtype of weights that a ``DequantizeLinear`` turns into floats."""
    sources = {node.input[0] for node in walk(proto) if node.op_type == "DequantizeLinear"}
    constants = {node.output[0]: node.attribute[0].t for node in walk(proto) if constant_value(node) is not None}
    stored = {tensor.name: tensor for graph in walk_graphs(proto) for tensor in graph.initializer}
    kinds = Counter(dtype_name(t.data_type) for name, t in (constants | stored).items() if name in sources)
    kinds.pop("int32", None)  # biases
    return kinds.most_common(1)[0][0] if kinds else None


def _between(proto: onnx.ModelProto) -> str | None:
    """Return the half-precision type that DequantizeLinear nodes produce, by their scales; ``None`` for float32."""
    scales = {name for node in walk(proto) if node.op_type == "DequantizeLinear" for name in node.input[1:2]}
    kinds = {
        dtype_name(each.data_type) for graph in walk_graphs(proto) for each in graph.initializer if each.name in scales
    }
    return next(iter(sorted(kinds & {"float16", "bfloat16"})), None)


def _mostly_half(proto: onnx.ModelProto) -> bool:
    counts = Counter[str]()
    for tensor in walk_tensors(proto):
        counts[dtype_name(tensor.data_type)] += math.prod(tensor.dims)
    return counts["float16"] > counts["float32"] + counts["float64"] + counts["bfloat16"]
