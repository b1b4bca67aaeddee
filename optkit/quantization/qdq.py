"""Q/DQ pairs in an ONNX graph by ONNX Runtime's engine: ranges from calibration data, and what is rounded how."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from optkit.errors import StageError
from optkit.formats.onnx import graph
from optkit.formats.tensors import Arrays
from optkit.notes import Note
from optkit.quantization.quantizer import Request, silent
from optkit.quantization.selection import absorbed, weighted_nodes

_AT_ONCE = {"minmax": 32, "entropy": 1, "percentile": 1}
"""Feeds collected at a time: the calibrator keeps what they gave until it returns, two numbers for each tensor with
minmax and whole tensors otherwise."""

_known_ranges: dict[tuple[str, ...], Any] = {}


@dataclass(frozen=True)
class Scheme:
    """What is rounded, and how, as a runtime's kernels want it; weights are in 8 bits, symmetric.

    ``symmetric`` activations have no zero point and are signed. ``reduced`` weights are in 7 bits. ``biases`` become
    integers of 32 bits. What ``giving_float`` operators give is not rounded; the tensors in ``also`` are. A weight of
    MatMul that is several matrices is ``batched``, a scale for each output channel, or has one for all.
    """

    symmetric: bool = False
    reduced: bool = False
    biases: bool = True
    batched: bool = False
    giving_float: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def operators(*nodes: list[Any]) -> list[str]:
    return sorted({node.op_type for each in nodes for node in each})


def ranges(path: Path, proto: Any, request: Request) -> Any:
    """The ranges of all tensors around what can be quantized, whatever is excluded now.

    The last ones are kept: a search quantizes one model with the same samples again and again.
    """
    around = operators(weighted := weighted_nodes(proto), absorbed(proto, weighted))
    samples = request.calibration.digest if request.calibration else ""
    key = (request.model.digest, samples, request.calibrate, *around)
    if key not in _known_ranges:
        found = _calibrated(path, around, request)
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


def own_biases(proto: Any, chosen: list[Any]) -> None:
    """Give each layer a flat bias of its own, a Gemm's beta in it, in place.

    The engine forgets beta where biases stay in float. It copies a shared bias as ``NAME2`` and does not look whether
    a tensor is called so already; and it takes the channels of a bias to be its first axis, which in a Gemm's row is
    of one.
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
    """Give nodes that stay in float weights of their own, in place: the engine replaces one for all that read it."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers = Counter(name for node in proto.graph.node for name in node.input)
    for node in excluded:
        for place, name in enumerate(node.input):
            if name in stored and readers[name] > 1:
                own = proto.graph.initializer.add()
                own.CopyFrom(stored[name])
                own.name = node.input[place] = f"{name}_of_{node.name}"


def scales_its_input(proto: Any, node: Any) -> bool:
    """Whether a Gemm adds what is computed, by a factor: the engine forgets that where biases stay in float."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return len(node.input) > 2 and node.input[2] not in constants and _beta(node) != 1


def _beta(node: Any) -> float:
    """By how much a layer's bias counts."""
    found = [float(each.f) for each in node.attribute if node.op_type == "Gemm" and each.name == "beta"]
    return found[0] if found else 1.0


def inserted(
    proto: Any, ranges: Any, chosen: list[Any], request: Request, scheme: Scheme
) -> tuple[Any, tuple[Note, ...]]:
    """The graph with Q/DQ pairs; notes where they are per tensor, as the engine cannot do it per channel, and on chosen
    layers that it left alone.
    """
    notes: tuple[Note, ...] = ()
    try:
        made = _with_pairs(proto, ranges, chosen, request, scheme, per_channel=request.per_channel)
    except StageError as error:
        if not request.per_channel:
            raise
        notes = (Note(f"one scale per tensor, as per channel {error.message}", level="warning"),)
        made = _with_pairs(proto, ranges, chosen, request, scheme, per_channel=False)
    return made, (*notes, *_left_alone(made, chosen))


def _left_alone(proto: Any, chosen: list[Any]) -> Iterator[Note]:
    """The chosen layers that take in what is not rounded: the engine must know the dtype of a tensor."""
    rounded = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    names = {node.name for node in chosen}
    left = Counter(node.op_type for node in proto.graph.node if node.name in names and node.input[0] not in rounded)
    for kind, count in left.items():
        yield Note(f"{count} x {kind} kept in float: nothing tells the dtype of what they take in", level="warning")


def _with_pairs(
    proto: Any, ranges: Any, chosen: list[Any], request: Request, scheme: Scheme, *, per_channel: bool
) -> Any:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = type(proto)()
    copied.CopyFrom(proto)
    _own_weights(copied, [node for node in copied.graph.node if request.excludes(node)])
    with request.engine.running(), silent():
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
    """How MatMul's weights of more than two axes are rounded: the engine takes the second axis for the channels'."""
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    weights = [node.input[1] for node in chosen if node.op_type == "MatMul" and ranks.get(node.input[1], 0) > 2]
    return {name: [{"axis": ranks[name] - 1} if scheme.batched else {"symmetric": True}] for name in weights}
