"""Weight-only INT8 and INT4 with ONNX Runtime: smaller files, computation in float; needs no data."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from optkit.errors import StageError
from optkit.formats.onnx import graph
from optkit.formats.onnx.signature import infer_shapes
from optkit.notes import Note
from optkit.quantization import embeddings
from optkit.quantization.preparation import prepared
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.quantization.selection import weighted_nodes

_BLOCK = 32
"""Weights that share a scale in INT4: the smallest block, and so the most accurate, that all kernels support."""
_MIN_ELEMENTS = 1024
"""Smaller weights are not worth an operator of their own."""


@quantizing()
def quantize(request: Request) -> Quantized:
    """Quantize constant weights. Raises StageError where there are none of use."""
    ready = prepared(request.model)
    proto, notes = infer_shapes(ready.proto), ready.notes
    changed, told = _blocks(proto, request) if request.bits == 4 else _channels(proto, request)
    tables = embeddings.quantize(changed, request)
    path = request.workdir / "model.onnx"
    graph.save(changed, path)
    return Quantized(path, notes=(*notes, *told, *tables))


def _blocks(proto: Any, request: Request) -> tuple[Any, tuple[Note, ...]]:
    """MatMul -> MatMulNBits: blocks of INT4 weights with a kernel of their own."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    chosen = [node for node in weighted_nodes(proto, ("MatMul",)) if not request.excludes(node)]
    if not chosen:
        raise StageError(
            f"{request.model.path}: weight-only INT4 finds no MatMul with constant weights",
            hint="--int8 --method weight-only also takes Conv and Gemm",
        )
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    spared = [node.name for node in proto.graph.node if request.excludes(node)]
    with request.engine.running():
        engine = MatMulNBitsQuantizer(
            proto, bits=4, block_size=_BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=spared
        )
        engine.process()
    note = Note(f"{len(chosen)} x MatMul with INT4 weights in blocks of {_BLOCK}; other arithmetic in float")
    return engine.model.model, (note,)


def _channels(proto: Any, request: Request) -> tuple[Any, tuple[Note, ...]]:
    """Weights as INT8 behind a DequantizeLinear: a scale per output channel, symmetric."""
    chosen = [node for node in weighted_nodes(proto) if not request.excludes(node)]
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    axes = {node.input[1]: _output_axis(node) for node in chosen}
    done = 0
    with request.engine.running():
        for name, axis in axes.items():
            done += _replace(proto, weights[name], axis)
    if not done:
        raise StageError(
            f"{request.model.path}: weight-only INT8 finds no Conv, MatMul or Gemm with large constant weights",
            hint="optkit inspect shows the model's operators",
        )
    note = Note(f"{done} weights in INT8; onnxruntime computes in float, so this is a choice of size, not of speed")
    return proto, (note,)


def _output_axis(node: Any) -> int:
    if node.op_type == "Gemm":
        return 0 if any(each.name == "transB" and each.i for each in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}[str(node.op_type)]


def _replace(proto: Any, tensor: Any, axis: int) -> bool:
    from onnx import TensorProto, helper, numpy_helper

    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _MIN_ELEMENTS:
        return False
    values = numpy_helper.to_array(tensor)
    axis %= values.ndim
    others = tuple(each for each in range(values.ndim) if each != axis)
    scale = np.maximum(np.abs(values).max(axis=others), np.finfo(np.float32).tiny) / 127
    shape = [-1 if each == axis else 1 for each in range(values.ndim)]
    integers = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
    name = tensor.name
    proto.graph.initializer.remove(tensor)
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(integers, f"{name}_int8"),
            numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
        ]
    )
    inputs = [f"{name}_int8", f"{name}_scale"]
    node = helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_dequantize", axis=axis)
    proto.graph.node.insert(0, node)
    return True
