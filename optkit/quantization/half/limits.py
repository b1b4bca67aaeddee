"""Range analysis for 16 bits: operators that stay float32, for their kind or for the values that they meet.

The kinds follow PyTorch's autocast, which computes sums, norms and products in float32 for float16 and bfloat16 alike.
Matrix products with weights and LayerNormalization are not among them: TensorRT accumulates these in float32 itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from optkit.formats.onnx.nodes import inside, scales_axis, walk, walk_tensors
from optkit.formats.tensors import Array, Arrays
from optkit.quantization.half.cast import FLOAT, CastOperator, FloatGraph, HalfType

_UNSUPPORTED = {"float16": (), "bfloat16": ("ConvTranspose", "GRU", "HardSwish", "Mish")}
"""Operators that ONNX defines in a half type and TensorRT lacks: its parser refuses them, or no kernel is built."""
_LAYOUT = ("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that move values and compute none."""
_INTEGERS = (6, 7)
"""``onnx.TensorProto.INT32`` and ``INT64``: positions, sizes, masks. Pixels come in fewer bits."""
_SUMS = (
    "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "CumSum",
    "LpNormalization", "LpPool", "MeanVarianceNormalization",
)  # fmt: skip
_LOGARITHMS = ("Log", "ReduceLogSum")
"""Infinite at zero, which is where small values underflow to in float16."""
_NORMS = ("ReduceL2", "ReduceSumSquare")
_MEANS = ("ReduceMean", "ReduceSum", "GlobalAveragePool")
_TO_DIVISOR = ("Add", "Sqrt", "Reciprocal", "Pow", "Clip", "Max", "Expand", "Unsqueeze")
"""Operators between the mean of squares, or a norm, and the division by it."""
_BIASED = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization", "LayerNormalization")
"""Operators whose third input is a bias."""
_BOUNDING = ("Clip", "Min", "Max")
_MASK = 1e9
"""The magnitude from which on a constant stands for infinity, as in attention masks."""
_HEADROOM = 4
"""A mask becomes the lowest value over this: it is added to scores, and sometimes to another mask."""
_MARGIN = 2
"""Unseen samples may bring values that much larger than those measured."""
PAIRS = ("QuantizeLinear", "DequantizeLinear")
_SCALE_MARGIN = 1 / 8
"""A scale may lie this far below the smallest normal value: integers of 8 bits need no more of its significant bits."""
_STEPS = 256
"""Of integers of 8 bits."""
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that have kernels in 8 bits."""
_LAYER = 1024
"""Elements from which on a constant is a layer's weight, and its product no arithmetic on positions."""


def shrink_masks(proto: Any, half: HalfType) -> int:
    """Make float32 constants that stand for infinity ones that mask as well in the half type, in place; count them.

    Infinities themselves stay, and so do bounds (``Clip``, ``Min``, ``Max``): they saturate at the end of the range.
    """
    bounds = {name for node in walk(proto) if node.op_type in (*_BOUNDING, *PAIRS) for name in node.input}
    return sum(_shrink(tensor, half) for tensor in walk_tensors(proto) if tensor.name not in bounds)


def _shrink(tensor: Any, half: HalfType) -> bool:
    from onnx import numpy_helper

    if tensor.data_type != FLOAT:
        return False
    values = numpy_helper.to_array(tensor)
    endless = np.isfinite(values) & (np.abs(values) >= max(_MASK, half.largest / _MARGIN))
    if not endless.any():
        return False
    shrunk = np.where(endless, np.sign(values) * np.float32(half.largest / _HEADROOM), values)
    tensor.CopyFrom(numpy_helper.from_array(shrunk.astype(np.float32), tensor.name))
    return True


def raise_scales(proto: Any) -> None:
    """Raise scales of 8-bit constants that would be coarse or zero in float16, and rescale the constants, in place.

    These are channels of nearly zero; TensorRT takes no scale of zero. Scales stay that float16 cannot hold, that have
    other consumers, or that have a zero point, as in files of other tools.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    consumers = Counter(name for node in proto.graph.node for name in node.input)
    for node in proto.graph.node:
        own = all(name in stored and consumers[name] == 1 for name in node.input[:2])
        if node.op_type != "DequantizeLinear" or not own or _asymmetric(node, stored):
            continue
        constant, scale = stored[node.input[0]], stored[node.input[1]]
        wanted = numpy_helper.to_array(scale)
        held = _representable(wanted)
        if wanted.ndim > 1 or (held == wanted).all():  # block-wise scales have more axes
            continue
        values = numpy_helper.to_array(constant)
        along = scales_axis(node) % max(1, values.ndim)
        spread = [-1 if axis == along else 1 for axis in range(values.ndim)] if wanted.ndim else []
        rescaled = values.astype(np.float32) * (wanted / held).reshape(spread)
        rounded = np.rint(rescaled) if values.dtype.kind == "i" else rescaled
        constant.CopyFrom(numpy_helper.from_array(rounded.astype(values.dtype), constant.name))
        scale.CopyFrom(numpy_helper.from_array(held, scale.name))


def _asymmetric(node: Any, stored: Mapping[str, Any]) -> bool:
    """Tell whether a DequantizeLinear has a zero point that is not zero, or is not constant."""
    from onnx import numpy_helper

    points = [name for name in node.input[2:3] if name]
    return any(name not in stored or numpy_helper.to_array(stored[name]).astype(np.float32).any() for name in points)


def _representable(scales: Array) -> Array:
    """Return scales; those that float16 rounds by more than a step of 8 bits become the next larger float16 value."""
    small = np.minimum(scales, 1.0)  # larger ones are exact enough, or overflow
    rounded = small.astype(np.float16)
    up = np.where(rounded < small, np.nextafter(rounded, np.float16(2.0)), rounded)
    coarse = np.abs(rounded.astype(np.float32) - small) > small / _STEPS
    return np.where(coarse, up.astype(np.float32), scales)


def unsupported(graph: FloatGraph) -> dict[CastOperator, str]:
    """Operators that compute float32 and cannot do so in the half type, with the reason."""
    found = {}
    for each in graph.operators:
        touched = [name for name in (*each.node.input, *each.node.output) if name]
        if next(inside(each.node), None) is not None:
            found[each] = "control flow is not converted"
        elif any(name not in graph.dtypes for name in touched):
            found[each] = "not all dtypes of its tensors are known"
        elif any(map(graph.is_float, touched)) and not any((*each.inputs, *each.outputs)):
            found[each] = f"ONNX does not define it in {graph.half.name}"
        elif each.node.op_type in _UNSUPPORTED[graph.half.name]:
            found[each] = f"TensorRT does not have it in {graph.half.name}"
    why = "before a GRU in float32: TensorRT builds no GRU behind a cast to float32"
    return dict.fromkeys(_sources(graph, [each for each in found if each.node.op_type == "GRU"]), why) | found


def _sources(graph: FloatGraph, operators: list[CastOperator]) -> list[CastOperator]:
    """Return the operators that compute the first inputs of ``operators``, and those that only move them on the way."""
    waiting = [each.node.input[0] for each in operators]
    found: set[CastOperator] = set()
    while waiting:
        name = waiting.pop()
        producer = graph.producers.get(name)
        if producer is not None and graph.is_float(name) and producer not in found:
            found.add(producer)
            waiting += producer.node.input if producer.node.op_type in _LAYOUT else ()
    return [each for each in graph.operators if each in found]


def sensitive(graph: FloatGraph) -> dict[CastOperator, str]:
    """Operators that stay float32 for their kind, with the reason."""
    found = dict.fromkeys(_of_integers(graph), "computed from integers, such as positions, which 16 bits round")
    kinds = (
        (_SUMS, "sums, norms and products of many values lose most in 16 bits"),
        (_LOGARITHMS, "logarithms of small values are infinite or coarse in 16 bits"),
    )
    for kind, why in kinds:
        found |= dict.fromkeys([each for each in graph.operators if each.node.op_type in kind], why)
    return found | dict.fromkeys(
        _normalizations(graph), "a normalization in single operators: squares, their sum, the division"
    )


def _of_integers(graph: FloatGraph) -> list[CastOperator]:
    """Operators whose floats are computed from integers and small constants alone."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.proto.graph.initializer}
    derived: set[str] = set()
    found = []
    for each in graph.operators:
        node = each.node
        read = [name for name in node.input if graph.is_float(name)]
        if node.op_type == "Cast":
            own = graph.dtypes.get(node.input[0]) in _INTEGERS or node.input[0] in derived
        else:
            own = any(name in derived for name in read) and all(
                name in derived or sizes.get(name, _LAYER) < _LAYER for name in read
            )
        floats = [name for name in node.output if graph.is_float(name)]
        if own and floats:
            found.append(each)
            derived.update(floats)
    return found


def _normalizations(graph: FloatGraph) -> list[CastOperator]:
    """Normalizations in single operators: from the squares, or the norm, to the division."""
    two = {tensor.name for tensor in graph.proto.graph.initializer if _is_two(tensor)}
    found: list[CastOperator] = []
    for each in graph.operators:
        means = [behind for behind in _behind(graph, each) if behind.node.op_type in _MEANS]
        if each.node.op_type in _NORMS:
            found += _divisions(graph, each)
        elif means and _squares(each.node, two):
            found.append(each)
            for mean in means:
                found += [mean, *_divisions(graph, mean)]
    return found


def _behind(graph: FloatGraph, operator: CastOperator) -> list[CastOperator]:
    """Return the consumers of an operator's first output."""
    return graph.consumers.get(operator.node.output[0], []) if operator.node.output else []


def _squares(node: Any, two: Collection[str]) -> bool:
    if node.op_type == "Pow":
        return node.input[1] in two
    return bool(node.op_type == "Mul" and node.input[0] == node.input[1])


def _is_two(tensor: Any) -> bool:
    from onnx import numpy_helper

    return int(np.prod(tensor.dims)) == 1 and bool(np.all(numpy_helper.to_array(tensor) == 2))


def _divisions(graph: FloatGraph, mean: CastOperator) -> list[CastOperator]:
    """Return the operators from behind a mean to the division by its root, or the product with the inverse."""
    found: list[CastOperator] = []
    waiting = [mean]
    while waiting:
        for behind in _behind(graph, waiting.pop()):
            if behind.node.op_type in _TO_DIVISOR and behind not in found:
                waiting.append(behind)
            elif behind.node.op_type not in ("Div", "Mul"):
                continue
            found.append(behind)
    return found


class Peaks:
    """The largest finite magnitude of each tensor over all feeds."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def add(self, values: Arrays) -> None:
        """Take the float tensors of one feed into account."""
        for name, array in values.items():
            if array.dtype.kind == "f":
                self.largest[name] = max(self.largest.get(name, 0.0), _peak(array))


def _peak(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _constant_peaks(proto: Any) -> dict[str, float]:
    """Return the largest magnitudes of the main graph's float32 constants, except those that stand for infinity."""
    from onnx import numpy_helper

    scales = {node.input[1] for node in proto.graph.node if node.op_type in PAIRS}
    found = {}
    for tensor in proto.graph.initializer:
        if tensor.data_type == FLOAT:
            values = numpy_helper.to_array(tensor)
            found[tensor.name] = _peak(values if tensor.name in scales else values[np.abs(values) < _MASK])
    return found


def out_of_range(graph: FloatGraph, measured: Mapping[str, float]) -> dict[CastOperator, str]:
    """Operators with values that overflow or underflow in the half type, with the reason.

    ``measured`` holds the largest magnitudes of computed tensors on samples; a margin is for other samples. Values that
    underflow are harmless in sums, except a scalar: it may be an epsilon that keeps a divisor from zero.
    """
    half = graph.half
    constants = _constant_peaks(graph.proto)
    scalars = {tensor.name for tensor in graph.proto.graph.initializer if int(np.prod(tensor.dims)) == 1}
    found = {}
    for each in graph.operators:
        names = {*each.node.input, *each.node.output}
        stored = {name: constants[name] for name in names & constants.keys()}
        met = {name: measured[name] for name in names & measured.keys()}
        small = [
            peak for name, peak in (stored | met).items() if peak > 0 and not _is_summand(each.node, name, scalars)
        ]
        smallest = half.smallest * _SCALE_MARGIN if each.node.op_type in PAIRS else half.smallest
        if max([*stored.values(), *(_MARGIN * peak for peak in met.values())], default=0.0) > half.largest:
            found[each] = f"values come near or beyond {half.largest:.6g}, the largest of {half.name}"
        elif min(small, default=1.0) < smallest:
            found[each] = f"values lie below {smallest:.1e}, where {half.name} loses precision"
    return found


def _is_summand(node: Any, name: str, scalars: Collection[str]) -> bool:
    """Tell whether a tensor is only added to others, as biases are: small values may then lose their last bits."""
    if node.op_type in ("Add", "Sub"):
        return name in node.input and name not in scalars
    return node.op_type in _BIASED and name in node.input[2:3]


def in_kernels_of(graph: FloatGraph, kept: Collection[CastOperator]) -> dict[CastOperator, str]:
    """Layers and their DequantizeLinear that stay float32 because one of them is in ``kept``, with the reason.

    An 8-bit kernel computes a layer and the pairs around it in one float type: a cast between them would split it.
    """
    found: dict[CastOperator, str] = {}
    before = -1
    while before < len(found):
        before = len(found)
        for each in graph.operators:
            pairs = [graph.producers[name] for name in each.node.input if name in graph.producers]
            pairs = [pair for pair in pairs if pair.node.op_type == "DequantizeLinear"]
            stays = any(part in kept or part in found for part in (each, *pairs))
            if pairs and stays and each.node.op_type in _PRODUCTS:
                found |= dict.fromkeys((each, *pairs), "in an 8-bit kernel with an operator that stays float32")
    return {each: why for each, why in found.items() if each not in kept}
