"""FP16 and BF16 for TensorRT: types in the graph itself, as strongly typed networks take their precision from there."""

from __future__ import annotations

from optkit.formats.onnx import graph
from optkit.quantization.half import convert as half_precision
from optkit.quantization.preparation import prepared
from optkit.quantization.quantizer import Quantized, Request


def quantize(request: Request) -> Quantized:
    """Write the graph in 16 bits, but for what they cannot hold; with data, ranges are measured and outputs compared.

    Raises StageError where nothing can be narrow, or an output would become NaN or infinite, and TargetError where the
    CPU cannot run what is to be measured.
    """
    ready = prepared(request.model)
    unknown = request.unknown(ready.proto)
    made = half_precision.converted(request, ready.proto, types=request.floats)
    path = request.workdir / "model.onnx"
    graph.save(made.proto, path)
    return Quantized(path, notes=(*ready.notes, *unknown, *made.notes), facts={"kept_in_float32": made.kept})
