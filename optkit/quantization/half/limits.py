"""What 16 bits cannot hold: operators that stay float32, for what they are and for the values that they meet.

The list of operators follows PyTorch's autocast, which computes sums, norms and products in float32 for float16 and
bfloat16 alike. Products with weights and LayerNormalization are not in it: there TensorRT adds up in float32 itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from optkit.formats.onnx.nodes import scales_axis, tensors, walk
from optkit.formats.tensors import Array, Arrays
from optkit.quantization.half.cast import FLOAT, Narrow

_INTEGERS = (6, 7)
"""``onnx.TensorProto.INT32`` and ``INT64``: positions, sizes, masks. Pixels come in fewer bits."""
_SUMS = (
    "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "CumSum",
    "LpNormalization", "LpPool", "MeanVarianceNormalization",
)  # fmt: skip
_STEEP = ("Log", "ReduceLogSum")
"""Near zero, where what is small becomes zero in float16, they are infinite."""
_NORMS = ("ReduceL2", "ReduceSumSquare")
_MEANS = ("ReduceMean", "ReduceSum", "GlobalAveragePool")
_TO_DIVISOR = ("Add", "Sqrt", "Reciprocal", "Pow", "Clip", "Max", "Expand", "Unsqueeze")
"""What stands between the mean of squares, or a norm, and the division by it."""
_BIASED = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization", "LayerNormalization")
"""Operators whose third input is a bias."""
_BOUNDING = ("Clip", "Min", "Max")
_MASK = 1e9
"""The magnitude from which on a constant stands for infinity."""
_HEADROOM = 4
"""A mask becomes the lowest value over this: it is added to scores, and at times to another mask."""
_MARGIN = 2
"""Samples that nobody has seen may bring values that much larger."""
PAIRS = ("QuantizeLinear", "DequantizeLinear")
_OF_A_SCALE = 1 / 8
"""How far below a type's least value of full precision a scale may lie: integers of 8 bits need no more of its bits."""
_STEPS = 256
"""Of integers of 8 bits."""
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that kernels compute in 8 bits."""
_LAYER = 1024
"""Elements from which on a constant is a layer's weight, and what is computed with it no arithmetic of positions."""


def shrink_masks(proto: Any, narrow: Narrow) -> int:
    """Make float32 constants that stand for infinity ones that do the same in the narrow type, in place; how many.

    Infinities themselves stay, and so do bounds: those only need to be no less than the range.
    """
    bounds = {name for node in walk(proto) if node.op_type in (*_BOUNDING, *PAIRS) for name in node.input}
    return sum(_shrink(tensor, narrow) for tensor in tensors(proto) if tensor.name not in bounds)


def _shrink(tensor: Any, narrow: Narrow) -> bool:
    from onnx import numpy_helper

    if tensor.data_type != FLOAT:
        return False
    values = numpy_helper.to_array(tensor)
    endless = np.isfinite(values) & (np.abs(values) >= max(_MASK, narrow.largest / _MARGIN))
    if not endless.any():
        return False
    shrunk = np.where(endless, np.sign(values) * np.float32(narrow.largest / _HEADROOM), values)
    tensor.CopyFrom(numpy_helper.from_array(shrunk.astype(np.float32), tensor.name))
    return True


def lift_scales(proto: Any) -> None:
    """Give constants in 8 bits whose scales float16 rounds coarsely, or to zero, larger ones, in place.

    Those are channels that are next to nothing; TensorRT takes no scale of zero. What float16 cannot hold stays, and so
    does what others read, too, or has a zero point, as files of other tools may.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers = Counter(name for node in proto.graph.node for name in node.input)
    for node in proto.graph.node:
        own = all(name in stored and readers[name] == 1 for name in node.input[:2])
        if node.op_type != "DequantizeLinear" or not own or _shifted(node, stored):
            continue
        constant, scale = stored[node.input[0]], stored[node.input[1]]
        wanted = numpy_helper.to_array(scale)
        held = _held(wanted)
        if wanted.ndim > 1 or (held == wanted).all():  # blocks have scales of more axes
            continue
        values = numpy_helper.to_array(constant)
        along = scales_axis(node) % max(1, values.ndim)
        spread = [-1 if axis == along else 1 for axis in range(values.ndim)] if wanted.ndim else []
        rescaled = values.astype(np.float32) * (wanted / held).reshape(spread)
        rounded = np.rint(rescaled) if values.dtype.kind == "i" else rescaled
        constant.CopyFrom(numpy_helper.from_array(rounded.astype(values.dtype), constant.name))
        scale.CopyFrom(numpy_helper.from_array(held, scale.name))


def _shifted(node: Any, stored: Mapping[str, Any]) -> bool:
    """Whether a DequantizeLinear has a zero point that is not zero, or may not be."""
    from onnx import numpy_helper

    points = [name for name in node.input[2:3] if name]
    return any(name not in stored or numpy_helper.to_array(stored[name]).astype(np.float32).any() for name in points)


def _held(scales: Array) -> Array:
    """The scales, but for those that float16 is off by a step of 8 bits: the next that it holds, never zero."""
    small = np.minimum(scales, 1.0)  # from there on float16 is fine, or ends
    rounded = small.astype(np.float16)
    up = np.where(rounded < small, np.nextafter(rounded, np.float16(2.0)), rounded)
    coarse = np.abs(rounded.astype(np.float32) - small) > small / _STEPS
    return np.where(coarse, up.astype(np.float32), scales)


def delicate(proto: Any, known: Mapping[str, int]) -> dict[int, str]:
    """Nodes of the main graph that stay float32 for what they compute, by their place in it, and why."""
    found = dict.fromkeys(_from_integers(proto, known), "made of integers, as positions are, which 16 bits round")
    sums = [place for place, node in enumerate(proto.graph.node) if node.op_type in _SUMS]
    found |= dict.fromkeys(sums, "sums, norms and products of many values lose most in 16 bits")
    logs = [place for place, node in enumerate(proto.graph.node) if node.op_type in _STEEP]
    found |= dict.fromkeys(logs, "logarithms, which 16 bits make infinite or coarse where values are small")
    return found | dict.fromkeys(_written_out(proto), "a normalization written out: squares, their sum, the division")


def _from_integers(proto: Any, known: Mapping[str, int]) -> list[int]:
    """Nodes whose floats come from integers and small constants alone."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in proto.graph.initializer}
    derived: set[str] = set()
    found = []
    for place, node in enumerate(proto.graph.node):
        read = [name for name in node.input if known.get(name) == FLOAT]
        if node.op_type == "Cast":
            own = known.get(node.input[0]) in _INTEGERS or node.input[0] in derived
        else:
            own = any(name in derived for name in read) and all(
                name in derived or sizes.get(name, _LAYER) < _LAYER for name in read
            )
        if own and any(known.get(name) == FLOAT for name in node.output):
            found.append(place)
            derived.update(name for name in node.output if known.get(name) == FLOAT)
    return found


def _written_out(proto: Any) -> list[int]:
    """Normalizations in single operators: from the squares, or the norm, to what is divided by them."""
    nodes = proto.graph.node
    readers: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        for name in dict.fromkeys(node.input):
            readers[name].append(place)
    two = {tensor.name for tensor in proto.graph.initializer if _is_two(tensor)}
    found: list[int] = []
    for place, node in enumerate(nodes):
        behind = [each for each in readers[node.output[0]] if nodes[each].op_type in _MEANS] if node.output else []
        if node.op_type in _NORMS:
            found += _divisors(nodes, readers, place)
        elif behind and _squares(node, two):
            found.append(place)
            for mean in behind:
                found += [mean, *_divisors(nodes, readers, mean)]
    return found


def _squares(node: Any, two: set[str]) -> bool:
    if node.op_type == "Pow":
        return node.input[1] in two
    return bool(node.op_type == "Mul" and node.input[0] == node.input[1])


def _is_two(tensor: Any) -> bool:
    from onnx import numpy_helper

    return int(np.prod(tensor.dims)) == 1 and bool(np.all(numpy_helper.to_array(tensor) == 2))


def _divisors(nodes: Any, readers: Mapping[str, list[int]], place: int) -> list[int]:
    """The places from behind the sum at ``place`` to what its root divides, or what its inverse multiplies."""
    found, waiting = [], [place]
    while waiting:
        for reader in readers.get(nodes[waiting.pop()].output[0], ()):
            if nodes[reader].op_type in _TO_DIVISOR and reader not in found:
                waiting.append(reader)
            elif nodes[reader].op_type not in ("Div", "Mul"):
                continue
            found.append(reader)
    return found


class Peaks:
    """The largest finite magnitude of each tensor over all feeds; nothing else of them is kept."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def add(self, values: Arrays) -> None:
        for name, array in values.items():
            if array.dtype.kind == "f":
                self.largest[name] = max(self.largest.get(name, 0.0), _peak(array))


def _peak(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def weights(proto: Any) -> dict[str, float]:
    """The largest magnitudes of the main graph's float32 constants, those that stand for infinity aside."""
    from onnx import numpy_helper

    scales = {node.input[1] for node in proto.graph.node if node.op_type in PAIRS}
    found = {}
    for tensor in proto.graph.initializer:
        if tensor.data_type == FLOAT:
            values = numpy_helper.to_array(tensor)
            found[tensor.name] = _peak(values if tensor.name in scales else values[np.abs(values) < _MASK])
    return found


def beyond(proto: Any, narrow: Narrow, constants: Mapping[str, float], computed: Mapping[str, float]) -> dict[int, str]:
    """Nodes of the main graph with values out of the narrow type's range, by their place in it, and why.

    A constant is what it is; what was computed on samples may be larger on others. What is small and only
    added is in no one's way, but a single number that is added may stand between a divisor and zero.
    """
    guards = {tensor.name for tensor in proto.graph.initializer if int(np.prod(tensor.dims)) == 1}
    found = {}
    for place, node in enumerate(proto.graph.node):
        names = {*node.input, *node.output}
        stored = {name: constants[name] for name in names & constants.keys()}
        met = {name: computed[name] for name in names & computed.keys()}
        small = [peak for name, peak in (stored | met).items() if peak > 0 and not _added(node, name, guards)]
        if max([*stored.values(), *(_MARGIN * peak for peak in met.values())], default=0.0) > narrow.largest:
            found[place] = f"values come near or beyond {narrow.largest:.6g}, where {narrow.name} ends"
        elif min(small, default=1.0) < (least := _least(node, narrow)):
            found[place] = f"values lie below {least:.1e}, where {narrow.name} gets coarse"
    return found


def _added(node: Any, name: str, guards: set[str]) -> bool:
    """Whether a tensor is only added to what counts, as biases are: small ones may lose their last bits."""
    if node.op_type in ("Add", "Sub"):
        return name in node.input and name not in guards
    return node.op_type in _BIASED and name in node.input[2:3]


def _least(node: Any, narrow: Narrow) -> float:
    return narrow.least * _OF_A_SCALE if node.op_type in PAIRS else narrow.least


def layers_of(proto: Any, kept: Mapping[int, str]) -> dict[int, str]:
    """What stays float32 because a layer or a DequantizeLinear before it is among ``kept``, by its place, and why.

    A kernel takes a layer and its pairs together, in one type: with a cast between, it would not be of integers.
    """
    makers = {
        node.output[0]: place for place, node in enumerate(proto.graph.node) if node.op_type == "DequantizeLinear"
    }
    found: dict[int, str] = {}
    before = -1
    while before < len(found):
        before = len(found)
        for place, node in enumerate(proto.graph.node):
            pairs = [makers[name] for name in node.input if name in makers]
            stays = any(each in kept or each in found for each in (place, *pairs))
            if pairs and stays and node.op_type in _PRODUCTS:
                found |= dict.fromkeys((place, *pairs), "of one kernel in 8 bits with what stays float32")
    return {place: why for place, why in found.items() if place not in kept}
