"""Comparison of outputs with expected ones, sample by sample and without padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optkit.errors import MetricError
from optkit.formats.tensors import Array, Arrays
from optkit.metrics import classification

MASK = "attention_mask"
"""Name of the input that marks padding."""
BROKEN = 1e6
"""The relative error of an output that is NaN or infinite and should not be."""


def align(name: str, output: Array, expected: Array, feed: Arrays) -> tuple[Array, Array, Array]:
    """Return values, expected values (both float64) and a mask of those that count, each with a row per sample.

    Padding by the attention mask does not count, nor does a NaN or infinity that both outputs share. Raises MetricError
    if the shapes differ or an output holds text.
    """
    if output.ndim > expected.ndim and output.shape[-1] == 1:
        output = output[..., 0]
    if expected.ndim > output.ndim and expected.shape[-1] == 1:
        expected = expected[..., 0]
    if output.shape != expected.shape:
        raise MetricError(
            f"output {name!r} has shape {list(output.shape)}, expected is {list(expected.shape)}: they cannot be "
            "compared value by value"
        )
    if "U" in (output.dtype.kind, expected.dtype.kind) or output.dtype == object:
        raise MetricError(f"output {name!r} holds text, not numbers", hint="name another output: METRIC:OUTPUT")
    values, wanted = (_rows(array) for array in (output, expected))
    common = ~np.isfinite(wanted) & ((values == wanted) | (np.isnan(values) & np.isnan(wanted)))
    return values, wanted, _rows(unmasked(output, feed)).astype(bool) & ~common


def cosines(name: str, output: Array, expected: Array, feed: Arrays) -> Array:
    """Compute the cosine similarity per sample: 1 for two zero vectors, 0 if only one is zero or either is broken (NaN
    or infinity that they do not share).
    """
    values, wanted, keep = align(name, output, expected, feed)
    broken = (keep & ~(np.isfinite(values) & np.isfinite(wanted))).any(axis=1)
    left, right = (_unit(np.where(keep & ~broken[:, None], array, 0.0)) for array in (values, wanted))
    both_zero = ~left.any(axis=1) & ~right.any(axis=1)
    return np.where(broken, 0.0, np.where(both_zero, 1.0, np.clip((left * right).sum(axis=1), -1.0, 1.0)))


def per_sample(rows: Sequence[Array], feed: Arrays) -> list[Array]:
    """Bring the values of each output to one per sample; an output with another number of rows gives its worst to all.

    The number of samples is the first input's number of rows if an output has as many, else the first output's.
    """
    fed = next((len(array) for array in feed.values() if array.ndim), 0)
    samples = fed if any(len(each) == fed for each in rows) else len(rows[0])
    return [each if len(each) == samples else np.full(samples, each.min(initial=1.0)) for each in rows]


def relative_errors(name: str, output: Array, expected: Array, feed: Arrays) -> Array:
    """Compute the relative error per sample: sum of squared errors over sum of squared expected values, at most
    ``BROKEN`` (noise over signal, the inverse of the SQNR).

    For integers and booleans, the share of values that differ. Raises MetricError if the shapes differ.
    """
    values, wanted, keep = align(name, output, expected, feed)
    if expected.dtype.kind != "f":
        shares: Array = ((values != wanted) & keep).sum(axis=1) / np.maximum(keep.sum(axis=1), 1)
        return shares
    with np.errstate(invalid="ignore", over="ignore"):
        noise = np.where(keep, (values - wanted) ** 2, 0.0).sum(axis=1)
        signal = np.where(keep, wanted**2, 0.0).sum(axis=1)
        ratio = noise / np.maximum(signal, np.finfo(np.float64).tiny)
    return np.where(np.isfinite(ratio), np.minimum(ratio, BROKEN), BROKEN)


def agreements(name: str, output: Array, expected: Array, feed: Arrays) -> tuple[Array, Array]:
    """Return two masks: the decisions (argmax, or threshold of a single score) are equal, and the decision counts.

    Raises MetricError if the shapes differ.
    """
    if output.shape != expected.shape:
        raise MetricError(f"output {name!r} has shape {list(output.shape)}, the reference's {list(expected.shape)}")
    seen = unmasked(output, feed)
    if output.dtype.kind in "iub":
        return (output == expected) & seen, seen
    if output.ndim < 2 or output.shape[-1] == 1:
        ours, theirs = (classification.classes_by_threshold(name, array) for array in (output, expected))
    else:
        # A score per position (such as the start of an answer): padding cannot be chosen.
        by_position = output.ndim == 2 and not seen.all()
        ours, theirs = (
            classification.classes_by_argmax(np.where(seen, a, -np.inf) if by_position else a)
            for a in (output, expected)
        )
        seen = np.ones(ours.shape, bool) if by_position else seen[..., 0]
    return (ours == theirs) & (ours != classification.UNDECIDED) & seen, seen


def correlation(left: Array, right: Array) -> float:
    """Compute Pearson's correlation; 0 if either side is constant."""
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / scale if scale else 0.0


def ranks(values: Array) -> Array:
    """Rank the values from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _rows(array: Array) -> Array:
    return array.reshape(len(array) if array.ndim else 1, -1).astype(np.float64)


def unmasked(output: Array, feed: Arrays) -> Array:
    """Return a mask of the output's values at real positions, by the attention mask if it fits the output's first two
    axes; else all are real.
    """
    mask = feed.get(MASK)
    if mask is None or mask.ndim != 2 or output.shape[:2] != mask.shape:
        return np.ones(output.shape, bool)
    shown = mask.astype(bool).reshape(*mask.shape, *[1] * (output.ndim - 2))
    return np.broadcast_to(shown, output.shape)


def _unit(rows: Array) -> Array:
    """Scale rows to length one and leave zeros; first by their largest value, so that no square overflows."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    length = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return scaled / np.where(length > 0, length, 1.0)
