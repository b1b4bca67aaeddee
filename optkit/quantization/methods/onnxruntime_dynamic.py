"""Dynamic INT8 with ONNX Runtime: weights ahead of time, activations as they come; needs no data."""

from __future__ import annotations

from typing import Any

from optkit.formats.onnx import graph
from optkit.formats.onnx.signature import infer_shapes
from optkit.notes import Note
from optkit.quantization import embeddings
from optkit.quantization.preparation import prepared
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.quantization.selection import kept_in_float, nothing_to_quantize, weighted_nodes
from optkit.targets.onnxruntime import providers

_RECURRENT = ("LSTM",)
_OPERATORS = ("MatMul", "Gemm")
"""Not Conv: ConvInteger measures its input anew each time and runs many times slower than float."""


@quantizing()
def quantize(request: Request) -> Quantized:
    """Quantize MatMul, Gemm and LSTM. Raises StageError where the model has none with constant weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ready = prepared(request.model)
    proto, notes = infer_shapes(ready.proto), ready.notes
    chosen = [node for node in _candidates(proto) if not request.excludes(node)]
    if not chosen:
        hint = "give --data for static INT8, or --method weight-only"
        raise nothing_to_quantize("dynamic INT8", proto, (*_OPERATORS, *_RECURRENT), request, hint)
    left = kept_in_float(proto, chosen, request)
    notes += embeddings.quantize(proto, request)
    path = request.workdir / "model.onnx"
    with request.engine.running(), providers.quiet():
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=[*_OPERATORS, *_RECURRENT],
            nodes_to_quantize=[node.name for node in chosen],
            per_channel=request.options.per_channel,
            weight_type=QuantType.QInt8,
            use_external_data_format=graph.weight_bytes(proto) > graph.EMBEDDED_LIMIT,
            extra_options={"MatMulConstBOnly": True},
        )
    return Quantized(path, notes=(*notes, *left, Note("activations are measured at every run")))


def _candidates(proto: Any) -> list[Any]:
    return [*weighted_nodes(proto, _OPERATORS), *weighted_nodes(proto, _RECURRENT)]
