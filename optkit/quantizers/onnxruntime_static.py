"""Static INT8 with ONNX Runtime: Q/DQ around Conv, MatMul and Gemm, ranges from calibration data."""

from __future__ import annotations

import math
import tempfile
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

from optkit import embeddings, graph, machine
from optkit.errors import StageError
from optkit.quantizer import (
    QUANTIZABLE,
    Quantized,
    Request,
    absorbed,
    kept_in_float,
    nothing_to_quantize,
    silent,
    simplified,
    weighted_nodes,
)
from optkit.stage import Note
from optkit.tensors import Arrays

_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")
"""What onnxruntime (``WeightBiasQuantization``) quantizes by itself when it loads a model."""
_GIVING_FLOAT = ("MatMul", "Gemm")
"""What has integer kernels whose sums come out in float. A scale of their own for these would cost quality, much where
one channel is large as in transformers, and win no time; what the next layer takes in is rounded there."""
_AT_ONCE = {"minmax": 32, "entropy": 1, "percentile": 1}
"""Feeds collected at a time: the calibrator keeps what they gave until it returns, two numbers for each tensor with
minmax and whole tensors otherwise."""

_known_ranges: dict[tuple[str, ...], Any] = {}


def quantize(request: Request) -> Quantized:
    """Calibrate feed by feed, then quantize. Raises StageError where nothing can be quantized, or the engine fails."""
    path, notes = simplified(request.model, request.workdir, request.engine)
    proto = graph.load(path)
    chosen = [node for node in weighted_nodes(proto) if not request.excludes(node)]
    if not chosen:
        hint = "the model may be quantized or of another kind: optkit inspect shows its operators"
        raise nothing_to_quantize("static INT8", proto, QUANTIZABLE, request, hint)
    quantized_nodes = chosen + [node for node in absorbed(proto, chosen) if not request.excludes(node)]
    ranges = _ranges(path, proto, request)
    notes += request.unknown(proto) + embeddings.quantize(proto, request)
    left = kept_in_float(proto, chosen, request)
    reduced = machine.saturates()
    if reduced:
        notes += (Note("weights in 7 bits: this CPU has no VNNI, and 8 would saturate", level="warning"),)
    _own_biases(proto, chosen)
    quantized, fallback = _inserted(proto, ranges, quantized_nodes, reduced, request)
    _absorb_clips(quantized)
    _defend(quantized)
    result = request.workdir / "model.onnx"
    graph.save(quantized, result)
    facts = {"quantized_nodes": len(chosen), "calibrate": request.calibrate}
    return Quantized(result, notes=(*notes, *fallback, *left), facts=facts)


def _operators(*nodes: list[Any]) -> list[str]:
    return sorted({node.op_type for each in nodes for node in each})


def _ranges(path: Path, proto: Any, request: Request) -> Any:
    """The ranges of all tensors around what can be quantized, whatever is excluded now.

    The last ones are kept: a search quantizes one model with the same samples again and again.
    """
    operators = _operators(weighted := weighted_nodes(proto), absorbed(proto, weighted))
    samples = request.calibration.digest if request.calibration else ""
    key = (request.model.digest, samples, request.calibrate, *operators)
    if key not in _known_ranges:
        found = _calibrated(path, operators, request)
        _known_ranges.clear()
        _known_ranges[key] = found
    return deepcopy(_known_ranges[key])  # the engine adjusts them


def _calibrated(path: Path, operators: list[str], request: Request) -> Any:
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    method = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}[request.calibrate]
    with tempfile.TemporaryDirectory(dir=request.workdir) as name:
        with request.engine.running(), silent():
            calibrator = create_calibrator(
                path,
                operators,
                augmented_model_path=str(Path(name) / "augmented.onnx"),
                calibrate_method=CalibrationMethod[method],
                use_external_data_format=request.model.size_bytes > graph.EMBEDDED_LIMIT,
            )
        feeds = request.feeds()
        while chunk := list(islice(feeds, _AT_ONCE[request.calibrate])):
            with request.engine.running(), silent():
                calibrator.collect_data(_Reader(chunk))
        with request.engine.running(), silent():
            return calibrator.compute_data()


class _Reader:
    """Feeds as the calibrator wants to read them."""

    def __init__(self, feeds: list[Arrays]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Arrays | None:
        return next(self._feeds, None)


def _own_biases(proto: Any, chosen: list[Any]) -> None:
    """Give each layer a flat bias of its own, in place.

    The engine copies a shared one as ``NAME2`` and does not look whether a tensor is called so already; and it takes
    the channels of a bias to be its first axis, which in a Gemm's row is of one.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    taken: set[str] = set()
    for node in chosen:
        bias = stored.get(node.input[2]) if len(node.input) > 2 else None
        if bias is None:
            continue
        row = len(bias.dims) > 1 and math.prod(bias.dims) == bias.dims[-1]
        if row or bias.name in taken:
            own = proto.graph.initializer.add()
            own.CopyFrom(bias)
            own.dims[:] = bias.dims[-1:] if row else bias.dims
            own.name = node.input[2] = f"{bias.name}_of_{node.name}"
        taken.add(bias.name)


def _inserted(
    proto: Any, ranges: Any, chosen: list[Any], reduced: bool, request: Request
) -> tuple[Any, tuple[Note, ...]]:
    """The graph with Q/DQ pairs; per tensor where the engine cannot do it per channel, which a note then says."""
    try:
        return _with_pairs(proto, ranges, chosen, reduced, request, per_channel=request.per_channel), ()
    except StageError as error:
        if not request.per_channel:
            raise
        note = Note(f"one scale per tensor, as per channel {error.message}", level="warning")
    return _with_pairs(proto, ranges, chosen, reduced, request, per_channel=False), (note,)


def _with_pairs(
    proto: Any, ranges: Any, chosen: list[Any], reduced: bool, request: Request, *, per_channel: bool
) -> Any:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = type(proto)()
    copied.CopyFrom(proto)
    with request.engine.running(), silent():
        engine = QDQQuantizer(
            copied,
            per_channel,
            reduced,
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            [node.name for node in chosen],
            [],
            _operators(chosen),
            {
                "WeightSymmetric": True,
                "ActivationSymmetric": False,
                "OpTypesToExcludeOutputQuantization": list(_GIVING_FLOAT),
            },
        )
        engine.quantize_model()
    return engine.model.model


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
            # What lies less than half a step beyond is rounded to the last step all the same.
            if -zero * scale > low - scale / 2 and (255 - zero) * scale < high + scale / 2:
                each.input[0] = node.input[0]
        if all(each.input[0] == node.input[0] for each in behind):
            proto.graph.node.remove(node)


def _readers(proto: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in graph.walk(proto):
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _defend(proto: Any) -> None:
    """Put a Sum of one between what is left in float and the integers behind it.

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
    """The node whose output, the only thing made of ``node``'s, is quantized; ``None`` where there is none."""
    while len(behind := readers.get(node.output[0], [])) == 1:
        if behind[0].op_type == "QuantizeLinear":
            return node
        if behind[0].op_type not in ("Relu", "Clip"):
            return None
        node = behind[0]
    return None
