"""Scales and zero points: integers as onnxruntime's static quantizer takes them from ranges and weights.

A value is ``scale * (integer - zero_point)``; activations are asymmetric unsigned bytes, weights symmetric signed ones
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optkit.formats.tensors import Array

_ACTIVATION_STEPS = 255


@dataclass(frozen=True)
class Affine:
    """One scale for a tensor, or one for each channel along ``axis``."""

    scale: Array
    zero_point: Array
    axis: int | None = None


def of_range(low: float, high: float) -> Affine:
    """The parameters of an activation whose values lie between ``low`` and ``high``; zero is always among them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _ACTIVATION_STEPS
    if not np.finfo(np.float32).tiny <= scale <= np.finfo(np.float32).max:
        return Affine(np.array(1.0, np.float32), np.array(0, np.uint8))
    zero = np.clip(np.rint(-low / scale), 0, _ACTIVATION_STEPS)
    return Affine(np.array(scale, np.float32), np.array(zero, np.uint8))


def of_weight(weight: Array, axis: int | None, bits: int) -> tuple[Array, Affine]:
    """A weight as signed integers of ``bits`` bits, with a scale for each channel along ``axis``, or one for all."""
    largest = 2 ** (bits - 1) - (bits == 8)  # as onnxruntime: 127 in 8 bits, 64 in 7
    others = tuple(each for each in range(weight.ndim) if axis is None or each != axis % weight.ndim)
    peaks = np.abs(weight).max(axis=others, keepdims=True, initial=0.0).astype(np.float64)
    scale = (np.where(peaks / largest < np.finfo(np.float32).tiny, largest, peaks) / largest).astype(np.float32)
    integers = np.clip(np.rint(weight / scale), -largest, largest).astype(np.int8)
    flat = scale.reshape(-1) if axis is not None else scale.reshape(())
    return integers, Affine(flat, np.zeros(flat.shape, np.int8), axis)
