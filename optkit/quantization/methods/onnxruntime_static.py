"""Static INT8 with ONNX Runtime: Q/DQ around Conv, MatMul and Gemm, ranges from calibration data."""

from __future__ import annotations

from typing import Any

from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.notes import Note
from optkit.quantization import embeddings, qdq
from optkit.quantization.preparation import simplified
from optkit.quantization.qdq import Scheme
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.quantization.selection import QUANTIZABLE, absorbed, kept_in_float, nothing_to_quantize, weighted_nodes
from optkit.system import fingerprint

_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")
"""Operators that onnxruntime (``WeightBiasQuantization``) quantizes by itself when it loads a model."""
_GIVING_FLOAT = ("MatMul", "Gemm")
"""Operators whose integer kernels give float outputs. Rounding these would cost quality, much where there are outlier
channels as in transformers, and win no time; the next layer rounds its input.
"""


@quantizing(calibrations=("minmax", "entropy", "percentile"))
def quantize(request: Request) -> Quantized:
    """Calibrate feed by feed, then quantize. Raises StageError where nothing can be quantized, or the engine fails."""
    path, notes = simplified(request.model, request.workdir, request.engine)
    proto = graph.load(path)
    chosen = [node for node in weighted_nodes(proto) if not request.excludes(node)]
    if not chosen:
        hint = "the model may be quantized or of another kind: optkit inspect shows its operators"
        raise nothing_to_quantize("static INT8", proto, QUANTIZABLE, request, hint)
    quantized_nodes = chosen + [node for node in absorbed(proto, chosen) if not request.excludes(node)]
    ranges = qdq.ranges(path, proto, request)
    notes += request.unknown(proto) + embeddings.quantize(proto, request)
    left = kept_in_float(proto, chosen, request)
    reduced = fingerprint.saturates()
    if reduced:
        notes += (Note("weights in 7 bits: this CPU has no VNNI, and 8 would saturate", level="warning"),)
    qdq.own_biases(proto, chosen)
    scheme = Scheme(reduced=reduced, giving_float=_GIVING_FLOAT)
    quantized, fallback = qdq.inserted(proto, ranges, quantized_nodes, request, scheme)
    _absorb_clips(quantized)
    _defend(quantized)
    result = request.workdir / "model.onnx"
    graph.save(quantized, result)
    facts = {"quantized_nodes": len(chosen), "calibrate": request.options.calibrate}
    return Quantized(result, notes=(*notes, *fallback, *left), facts=facts)


def _absorb_clips(proto: Any) -> None:
    """Take away each Clip that only integers read whose range cuts off the same, in place.

    onnxruntime does so on loading only where both agree in the last digit, and that rounding rarely leaves.
    """
    from onnx import numpy_helper

    stored = {each.name: each for each in proto.graph.initializer}
    readers = _readers(proto)
    given = {each.name for each in proto.graph.output}

    def number(name: str) -> float:
        return float(numpy_helper.to_array(stored[name]))

    for node in [each for each in proto.graph.node if each.op_type == "Clip"]:
        behind = readers.get(node.output[0], [])
        bounds = [name for name in node.input[1:] if name]
        if (
            len(bounds) < 2
            or not behind
            or node.output[0] in given
            or any(each.op_type != "QuantizeLinear" for each in behind)
        ):
            continue
        if any(name not in stored for each in behind for name in (*bounds, *each.input[1:])):
            continue
        low, high = map(number, bounds)
        for each in behind:
            scale, zero = map(number, each.input[1:])
            # Values less than half a step beyond are rounded to the last step all the same.
            if -zero * scale > low - scale / 2 and (255 - zero) * scale < high + scale / 2:
                each.input[0] = node.input[0]
        if all(each.input[0] == node.input[0] for each in behind):
            proto.graph.node.remove(node)


def _readers(proto: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in walk(proto):
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _defend(proto: Any) -> None:
    """Put a Sum of one input between layers left in float and the integers behind them.

    On loading, onnxruntime gives float weights between a DequantizeLinear and a QuantizeLinear integers of its own, in
    8 bits with one scale for all channels, and so undoes ``exclude``; nothing but Relu and Clip may lie between.
    """
    from onnx import helper

    weights = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == tensor.FLOAT}
    makers = {name: node for node in proto.graph.node for name in node.output}
    readers = _readers(proto)
    for node in list(proto.graph.node):
        source = makers.get(node.input[0]) if node.op_type in _REQUANTIZED and node.input[1] in weights else None
        last = _last_before_integers(node, readers) if source and source.op_type == "DequantizeLinear" else None
        if last is not None:
            output, place = last.output[0], list(proto.graph.node).index(last)
            last.output[0] = f"{output}_in_float"
            barrier = helper.make_node("Sum", [last.output[0]], [output], f"{last.name}_in_float")
            proto.graph.node.insert(place + 1, barrier)


def _last_before_integers(node: Any, readers: dict[str, list[Any]]) -> Any:
    """Return the node whose output, the only thing made of ``node``'s, is quantized; ``None`` where there is none."""
    while len(behind := readers.get(node.output[0], [])) == 1:
        if behind[0].op_type == "QuantizeLinear":
            return node
        if behind[0].op_type not in ("Relu", "Clip"):
            return None
        node = behind[0]
    return None
