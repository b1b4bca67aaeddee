"""FP16 and BF16 for TensorRT: types in the graph itself, as strongly typed networks take their precision from there."""

from __future__ import annotations

from optkit.quantization.half.convert import convert_to_half
from optkit.quantization.preparation import prepared
from optkit.quantization.quantizer import Quantized, Request, quantizing


@quantizing()
def quantize(request: Request) -> Quantized:
    """Write the graph in 16 bits, except operators that overflow or underflow; with data, measure ranges and compare.

    Raises StageError where no operator can be 16-bit, or an output would become NaN or infinite, and TargetError where
    onnxruntime cannot run the graphs on the CPU.
    """
    ready = prepared(request.model)
    unknown = request.unknown(ready.proto)
    path, notes, facts = convert_to_half(request, ready.proto, types=request.options.floats)
    return Quantized(path, notes=(*ready.notes, *unknown, *notes), facts=facts)
