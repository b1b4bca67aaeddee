"""Affine quantization: scale and zero point of activations and weights, computed as by onnxruntime's static quantizer.

A value is ``scale * (integer - zero_point)``; activations are asymmetric UINT8, weights symmetric INT8 (Jacob et al.,
Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optkit.formats.tensors import Array

_ACTIVATION_STEPS = 255


@dataclass(frozen=True)
class Affine:
    """Scale (float32) and zero point (UINT8 or INT8): scalars for a whole tensor, or 1-D per channel along ``axis``."""

    scale: Array
    zero_point: Array
    axis: int | None = None


def of_range(low: float, high: float) -> Affine:
    """Return the parameters of an activation with values from ``low`` to ``high``; the range is extended to include 0.

    Scale is 1 and zero point 0 if float32 cannot hold the scale.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _ACTIVATION_STEPS
    if not np.finfo(np.float32).tiny <= scale <= np.finfo(np.float32).max:
        return Affine(np.array(1.0, np.float32), np.array(0, np.uint8))
    zero = np.clip(np.rint(-low / scale), 0, _ACTIVATION_STEPS)
    return Affine(np.array(scale, np.float32), np.array(zero, np.uint8))


def of_weight(weight: Array, axis: int | None, bits: int) -> tuple[Array, Affine]:
    """Quantize a weight to signed integers of ``bits`` bits, with a scale per channel along ``axis`` or a single one.

    Returns the integers as INT8 in the shape of the weight, and their parameters.
    """
    largest = 2 ** (bits - 1) - (bits == 8)  # as onnxruntime: 127 in 8 bits, 64 in 7
    others = tuple(each for each in range(weight.ndim) if axis is None or each != axis % weight.ndim)
    peaks = np.abs(weight).max(axis=others, keepdims=True, initial=0.0).astype(np.float64)
    scale = (np.where(peaks / largest < np.finfo(np.float32).tiny, largest, peaks) / largest).astype(np.float32)
    integers = np.clip(np.rint(weight / scale), -largest, largest).astype(np.int8)
    flat = scale.reshape(-1) if axis is not None else scale.reshape(())
    return integers, Affine(flat, np.zeros(flat.shape, np.int8), axis)
