"""Q/DQ pairs in an ONNX graph, inserted by ONNX Runtime's quantizer with ranges from calibration data."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from optkit.errors import StageError
from optkit.formats.onnx import graph
from optkit.formats.tensors import Arrays
from optkit.notes import Note
from optkit.quantization.quantizer import Request
from optkit.quantization.selection import absorbed, weighted_nodes
from optkit.targets.onnxruntime import providers

_AT_ONCE = {"minmax": 32, "entropy": 1, "percentile": 1}
"""Number of feeds collected at a time, by calibration method: until it returns, the calibrator keeps two numbers per
tensor and feed with minmax, and whole tensors otherwise.
"""


@dataclass(frozen=True)
class Scheme:
    """A quantization scheme that fits a runtime's kernels; weights are always symmetric INT8."""

    symmetric: bool = False
    """Quantize activations as symmetric INT8, without a zero point, instead of asymmetric UINT8."""
    reduced: bool = False
    """Quantize weights to 7 bits."""
    biases: bool = True
    """Quantize biases to INT32."""
    batched: bool = False
    """Give MatMul weights of several matrices a scale per output channel instead of a single one."""
    giving_float: tuple[str, ...] = ()
    """Operators whose outputs are not quantized."""
    also: tuple[str, ...] = ()
    """Further tensors to quantize."""


def operators(*nodes: list[Any]) -> list[str]:
    """List the operators of all nodes, sorted."""
    return sorted({node.op_type for each in nodes for node in each})


def ranges(path: Path, proto: Any, request: Request) -> Any:
    """Return the calibration ranges of all tensors around quantizable nodes, including excluded ones.

    ``request.ranges`` keeps them, because a search quantizes one model with the same samples many times.
    """
    around = operators(weighted := weighted_nodes(proto), absorbed(proto, weighted))
    samples = request.calibration.digest if request.calibration else ""
    key = (request.model.digest, samples, request.options.calibrate, *around)
    return request.ranges.get(key, lambda: _calibrated(path, around, request))


def _calibrated(path: Path, operators: list[str], request: Request) -> Any:
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    method = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}[request.options.calibrate]
    with tempfile.TemporaryDirectory(dir=request.workdir, prefix="optkit-") as name:
        with request.engine.running(), providers.quiet():
            calibrator = create_calibrator(
                path,
                operators,
                augmented_model_path=str(Path(name) / "augmented.onnx"),
                calibrate_method=CalibrationMethod[method],
                use_external_data_format=request.model.size_bytes > graph.EMBEDDED_LIMIT,
            )
        feeds = request.feeds()
        while chunk := list(islice(feeds, _AT_ONCE[request.options.calibrate])):
            with request.engine.running(), providers.quiet():
                calibrator.collect_data(_Reader(chunk))
        with request.engine.running(), providers.quiet():
            return calibrator.compute_data()


class _Reader:
    """Adapter of feeds to the calibrator's interface."""

    def __init__(self, feeds: list[Arrays]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Arrays | None:
        return next(self._feeds, None)


def own_biases(proto: Any, chosen: list[Any]) -> None:
    """Give each layer a one-dimensional bias of its own, multiplied by Gemm's beta, in place.

    The quantizer ignores beta if biases stay in float. It copies a shared bias to ``NAME2`` even if a tensor of that
    name exists. And it takes the first axis of a bias for the channels, which has size one in a Gemm's row.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    taken: set[str] = set()
    for node in chosen:
        if _beta(node) == 0:
            del node.input[2:]
        bias = stored.get(node.input[2]) if len(node.input) > 2 else None
        if bias is None:
            continue
        row = len(bias.dims) > 1 and math.prod(bias.dims) == bias.dims[-1]
        if row or bias.name in taken or _beta(node) != 1:
            values = numpy_helper.to_array(bias) * np.asarray(_beta(node), numpy_helper.to_array(bias).dtype)
            name = f"{bias.name}_of_{node.name}"
            proto.graph.initializer.append(numpy_helper.from_array(values.reshape(-1) if row else values, name))
            node.input[2] = name
        taken.add(bias.name)
        for attribute in [each for each in node.attribute if node.op_type == "Gemm" and each.name == "beta"]:
            node.attribute.remove(attribute)


def _own_weights(proto: Any, excluded: list[Any]) -> None:
    """Give nodes that stay in float weights of their own, in place: the quantizer replaces a weight for all readers."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers = Counter(name for node in proto.graph.node for name in node.input)
    for node in excluded:
        for index, name in enumerate(node.input):
            if name in stored and readers[name] > 1:
                own = proto.graph.initializer.add()
                own.CopyFrom(stored[name])
                own.name = node.input[index] = f"{name}_of_{node.name}"


def scales_its_input(proto: Any, node: Any) -> bool:
    """Return True if a Gemm adds a computed tensor times beta: the quantizer ignores beta if biases stay in float."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return len(node.input) > 2 and node.input[2] not in constants and _beta(node) != 1


def _beta(node: Any) -> float:
    """Return the factor of a layer's bias: a Gemm's beta, otherwise 1."""
    found = [float(each.f) for each in node.attribute if node.op_type == "Gemm" and each.name == "beta"]
    return found[0] if found else 1.0


def inserted(
    proto: Any, ranges: Any, chosen: list[Any], request: Request, scheme: Scheme
) -> tuple[Any, tuple[Note, ...]]:
    """Return the graph with Q/DQ pairs, and notes.

    A note tells if scales are per tensor because the quantizer failed per channel, and which chosen layers it left in
    float.
    """
    notes: tuple[Note, ...] = ()
    try:
        made = _with_pairs(proto, ranges, chosen, request, scheme, per_channel=request.options.per_channel)
    except StageError as error:
        if not request.options.per_channel:
            raise
        notes = (Note(f"one scale per tensor, as per channel {error.message}", level="warning"),)
        made = _with_pairs(proto, ranges, chosen, request, scheme, per_channel=False)
    return made, (*notes, *_left_alone(made, chosen))


def _left_alone(proto: Any, chosen: list[Any]) -> Iterator[Note]:
    """Yield notes on chosen layers whose input is not quantized, because the quantizer must know its dtype."""
    rounded = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    names = {node.name for node in chosen}
    left = Counter(node.op_type for node in proto.graph.node if node.name in names and node.input[0] not in rounded)
    for kind, count in left.items():
        yield Note(f"{count} x {kind} kept in float: the data type of their input is unknown", level="warning")


def _with_pairs(
    proto: Any, ranges: Any, chosen: list[Any], request: Request, scheme: Scheme, *, per_channel: bool
) -> Any:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = type(proto)()
    copied.CopyFrom(proto)
    _own_weights(copied, [node for node in copied.graph.node if request.excludes(node)])
    with request.engine.running(), providers.quiet():
        engine = QDQQuantizer(
            copied,
            per_channel,
            scheme.reduced,
            QuantType.QInt8,
            QuantType.QInt8 if scheme.symmetric else QuantType.QUInt8,
            ranges,
            [node.name for node in chosen],
            [],
            operators(chosen),
            {
                "WeightSymmetric": True,
                "ActivationSymmetric": scheme.symmetric,
                "QuantizeBias": scheme.biases,
                "OpTypesToExcludeOutputQuantization": list(scheme.giving_float),
                "TensorQuantOverrides": _several_matrices(copied, chosen, scheme) if per_channel else {},
            },
        )
        for name in scheme.also:
            engine.quantize_activation_tensor(name)
        engine.quantize_model()
        engine.model.topological_sort()  # it adds pairs at the end, and ONNX wants nodes in the order of computation
    return engine.model.model


def _several_matrices(proto: Any, chosen: list[Any], scheme: Scheme) -> dict[str, list[dict[str, Any]]]:
    """Return overrides for MatMul weights of more than two axes: the quantizer takes the second axis for channels."""
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    weights = [node.input[1] for node in chosen if node.op_type == "MatMul" and ranks.get(node.input[1], 0) > 2]
    return {name: [{"axis": ranks[name] - 1} if scheme.batched else {"symmetric": True}] for name in weights}
