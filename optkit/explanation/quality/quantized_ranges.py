"""Quantized ranges of activations, read from Q/DQ pairs (ONNX) or FakeQuantize (OpenVINO IR), against actual values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.openvino import stable_names
from optkit.formats.tensors import Array
from optkit.quantization.openvino_nodes import WEIGHTED
from optkit.records.layers import RangeRecord

_SCALING = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose", "FakeQuantize")
"""Operations of an IR between a stored constant and the product that multiplies with it."""
_SEVEN_BITS = 64
"""Largest magnitude of 7-bit weights, as made for CPUs whose 8-bit sums saturate."""
_MIDDLE = (0.005, 0.995)
"""Quantiles between which the middle 99 % of the values lie."""
_STEPS = 255
"""Quantization steps of 8 bits."""
_CHANNELS_FIRST = 4
"""Rank from which on channels are axis 1, not the last; at the input of a convolution they always are."""
_CONVOLVED = 3
"""Smallest rank of a convolution's input."""
_MIN_CHANNELS = 4
"""Smallest number of channels among which one can be an outlier."""
_CHANCE = 0.01
"""Significance level of the test that evaluation samples differ from the calibration data."""


@dataclass(frozen=True)
class QuantizedRange:
    """The smallest and the largest value that an activation can take once quantized."""

    tensor: str
    low: float
    high: float


def quantized_ranges(model: Model) -> list[QuantizedRange]:
    """Return the ranges of all activations with static scales, in the order of the model."""
    found = _of_ir(stable_names.read(model.path)) if model.format == "openvino" else _of_onnx(graph.load(model.path))
    return list({each.tensor: each for each in found}.values())


def count_eight_bit_weights(model: Model) -> int:
    """Count the weights of products that use the full 8-bit range, so that 16-bit sums of them may saturate."""
    weights = _int8_weights_of_ir if model.format == "openvino" else _int8_weights_of_onnx
    return sum(_exceeds_seven_bits(each) for each in weights(model))


def _int8_weights_of_onnx(model: Model) -> Iterator[Array]:
    """Yield signed 8-bit initializers, except embedding tables: their rows are looked up, not summed."""
    from onnx import numpy_helper

    proto = graph.load(model.path)
    tables = {node.input[0] for node in proto.graph.node if node.op_type == "Gather"}
    for tensor in proto.graph.initializer:
        if tensor.data_type == tensor.INT8 and tensor.name not in tables:
            yield numpy_helper.to_array(tensor)


def _int8_weights_of_ir(model: Model) -> Iterator[Array]:
    for operation in stable_names.read(model.path).get_ops():
        signed = operation.get_type_name() == "Constant" and operation.get_element_type().to_string() == "i8"
        if signed and _multiplied(operation):
            yield operation.get_data()


def _multiplied(operation: Any) -> bool:
    """Return True if a constant becomes, once scaled, the weight of a product."""
    readers = [port.get_node() for output in operation.outputs() for port in output.get_target_inputs()]
    kinds = {each.get_type_name() for each in readers}
    return bool(kinds & set(WEIGHTED)) or any(_multiplied(each) for each in readers if each.get_type_name() in _SCALING)


def _exceeds_seven_bits(integers: Array) -> bool:
    return integers.ndim > 1 and integers.size > 0 and int(np.abs(integers.astype(np.int16)).max()) > _SEVEN_BITS


def _of_onnx(proto: Any) -> Iterator[QuantizedRange]:
    from onnx import numpy_helper

    stored = {each.name: each for each in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in stored or len(node.input) < 3:
            continue
        if not all(name in stored for name in node.input[1:3]):
            continue
        scale, zero = (numpy_helper.to_array(stored[name]) for name in node.input[1:3])
        limits = np.iinfo(zero.dtype)
        low, high = (scale.astype(np.float64) * (limit - zero.astype(np.float64)) for limit in (limits.min, limits.max))
        yield QuantizedRange(node.input[0], float(low.min()), float(high.max()))


def _of_ir(network: Any) -> Iterator[QuantizedRange]:
    for operation in network.get_ordered_ops():
        if operation.get_type_name() != "FakeQuantize":
            continue
        source = operation.input_value(0)
        low, high = (operation.input_value(index).get_node() for index in (1, 2))
        constant = low.get_type_name() == high.get_type_name() == "Constant"
        if source.get_names() and constant and source.get_node().get_type_name() != "Constant":
            yield QuantizedRange(min(source.get_names()), float(low.get_data().min()), float(high.get_data().max()))


class RangeStatistics:
    """Statistics of the baseline's values of a tensor, against the range within which the candidate quantizes it."""

    def __init__(self, quantized: QuantizedRange, convolved: bool = False) -> None:
        self._quantized, self._convolved = quantized, convolved
        self._low, self._high = np.inf, -np.inf
        self._middle = [np.inf, -np.inf]
        self._outside, self._vanished = 0, 0
        self._shares: list[float] = []
        self._calibrated: list[float] = []
        self._channels: Array | None = None
        self.count = 0

    def add(self, values: Array) -> None:
        """Add the baseline's values on evaluation samples."""
        finite = _finite(values)
        if not finite.size:
            return
        self.count += finite.size
        self._low, self._high = min(self._low, float(finite.min())), max(self._high, float(finite.max()))
        self._outside += self._beyond(finite)
        self._shares.append(self._beyond(finite) / finite.size)
        self._vanished += int(np.count_nonzero((finite != 0) & (np.abs(finite) < self._step / 2)))
        low, high = np.quantile(finite, _MIDDLE)
        self._middle = [min(self._middle[0], float(low)), max(self._middle[1], float(high))]
        self._add_channels(values)

    def add_calibration(self, values: Array) -> None:
        """Add the baseline's values on calibration samples."""
        finite = _finite(values)
        self._calibrated.append(self._beyond(finite) / max(finite.size, 1))

    def _beyond(self, finite: Array) -> int:
        """Count the values that saturate."""
        low, high = self._quantized.low, self._quantized.high
        slack = self._step / 2  # a value that rounds to the limit does not saturate
        return int(np.count_nonzero((finite < low - slack) | (finite > high + slack)))

    @property
    def _step(self) -> float:
        return (self._quantized.high - self._quantized.low) / _STEPS

    def _add_channels(self, values: Array) -> None:
        if values.ndim < (_CONVOLVED if self._convolved else 2):
            return
        axis = 1 if self._convolved or values.ndim >= _CHANNELS_FIRST else values.ndim - 1
        others = tuple(each for each in range(values.ndim) if each != axis)
        peaks = np.nan_to_num(np.abs(values)).max(axis=others)
        known = self._channels
        self._channels = peaks if known is None or known.shape != peaks.shape else np.maximum(known, peaks)

    def record(self, exclude: list[str], logarithm: str | None = None, of_logarithm: bool = False) -> RangeRecord:
        """Summarize the values as a record; the arguments are fields of it."""
        quantized = self._quantized
        width = max(quantized.high - quantized.low, float(np.finfo(np.float32).tiny))
        low, high = np.clip(self._middle, quantized.low, quantized.high)
        channel, ratio = self._largest_channel()
        return RangeRecord(
            tensor=quantized.tensor,
            exclude=exclude,
            low=quantized.low,
            high=quantized.high,
            seen_low=self._low,
            seen_high=self._high,
            outside=self._outside / self.count,
            outside_calibration=float(np.mean(self._calibrated)) if self._calibrated else None,
            unlike=significantly_larger(self._shares, self._calibrated),
            used=float(high - low) / width,
            vanished=self._vanished / self.count,
            logarithm=logarithm,
            of_logarithm=of_logarithm,
            channel=channel,
            channel_ratio=ratio,
        )

    def _largest_channel(self) -> tuple[int | None, float | None]:
        """Return the number of the channel of largest magnitude, and its ratio to the median channel."""
        peaks = self._channels
        if peaks is None or len(peaks) < _MIN_CHANNELS or not np.median(peaks) > 0:
            return None, None
        return int(np.argmax(peaks)), float(peaks.max() / np.median(peaks))


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)] if values.dtype.kind == "f" else np.empty(0)


def significantly_larger(shares: Sequence[float], others: Sequence[float]) -> bool:
    """Return True if ``shares`` are significantly larger than ``others`` (one-sided Mann-Whitney test)."""
    if not others or max(others) == 0:
        return max(shares, default=0.0) > 0
    from scipy.stats import mannwhitneyu  # half a second to import

    return bool(mannwhitneyu(shares, others, alternative="greater").pvalue < _CHANCE)
