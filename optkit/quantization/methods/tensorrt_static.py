"""Static INT8 for TensorRT: symmetric Q/DQ where its kernels fuse them, ranges from calibration data.

A layer's input is rounded, and its weights per channel; biases and outputs stay in float, so that the
batch norm, ReLU and sum behind it go into the same kernel ("Explicit Quantization" in NVIDIA's documentation).
"""

from __future__ import annotations

from typing import Any

from optkit.formats.onnx import graph
from optkit.quantization import qdq
from optkit.quantization.half.convert import save_in_half
from optkit.quantization.preparation import simplified
from optkit.quantization.qdq import Scheme
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.quantization.selection import QUANTIZABLE, kept_in_float, nothing_to_quantize, weighted_nodes

_OPERATORS = tuple(name for name in QUANTIZABLE if name != "ConvTranspose")
"""TensorRT-RTX computes a ConvTranspose in float whatever surrounds it, and makes its weights float at each run."""


@quantizing(calibrations=("minmax", "entropy", "percentile"), in_float=("ConvTranspose",))
def quantize(request: Request) -> Quantized:
    """Calibrate feed by feed, then quantize. Raises StageError where nothing can be quantized, or the engine fails."""
    path, notes = simplified(request.model, request.workdir, request.engine)
    proto = graph.load(path)
    able = [node for node in weighted_nodes(proto, _OPERATORS) if not qdq.scales_its_input(proto, node)]
    chosen = [node for node in able if not request.excludes(node)]
    if not chosen:
        hint = "the model may be quantized or of another kind: optkit inspect shows its operators"
        raise nothing_to_quantize("static INT8", proto, _OPERATORS, request, hint)
    ranges = qdq.ranges(path, proto, request)
    notes += request.unknown(proto)
    left = kept_in_float(proto, chosen, request)
    qdq.own_biases(proto, chosen)
    scheme = Scheme(
        symmetric=True, biases=False, batched=True, giving_float=QUANTIZABLE, also=_shortcuts(proto, chosen)
    )
    quantized, fallback = qdq.inserted(proto, ranges, chosen, request, scheme)
    result, halved, more = save_in_half(request, quantized)
    facts = {"quantized_nodes": len(chosen), "calibrate": request.options.calibrate} | more
    return Quantized(result, notes=(*notes, *fallback, *left, *halved), facts=facts)


def _shortcuts(proto: Any, chosen: list[Any]) -> tuple[str, ...]:
    """Of each sum of two quantized layers' outputs one: the other layer then takes the sum into its own kernel.

    A shortcut without a layer of its own is rounded already, as the input of the block.
    """
    made = {node.output[0] for node in chosen}
    sums = (node for node in proto.graph.node if node.op_type == "Add" and made.issuperset(node.input))
    return tuple(dict.fromkeys(node.input[1] for node in sums))
