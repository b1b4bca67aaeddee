"""Outputs beside expected ones: brought to one shape, without padding, and compared sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optkit.errors import MetricError
from optkit.formats.tensors import Array, Arrays
from optkit.metrics import classification

MASK = "attention_mask"
BROKEN = 1e6
"""The relative error of what is NaN or infinite and should not be."""


def aligned(name: str, output: Array, expected: Array, feed: Arrays) -> tuple[Array, Array, Array]:
    """Values, wanted values and which of them count, each with a row per sample, in double precision.

    What lies under the attention mask does not count, and neither does a NaN or infinity that both have in common.
    Raises MetricError when the shapes differ.
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
    return values, wanted, _rows(_unmasked(output, feed)).astype(bool) & ~common


def cosines(name: str, output: Array, expected: Array, feed: Arrays) -> Array:
    """The cosine per sample: 1 for two zero vectors, 0 for one of them and for NaN or infinity in one only."""
    values, wanted, keep = aligned(name, output, expected, feed)
    broken = (keep & ~(np.isfinite(values) & np.isfinite(wanted))).any(axis=1)
    left, right = (_unit(np.where(keep & ~broken[:, None], array, 0.0)) for array in (values, wanted))
    both_zero = ~left.any(axis=1) & ~right.any(axis=1)
    return np.where(broken, 0.0, np.where(both_zero, 1.0, np.clip((left * right).sum(axis=1), -1.0, 1.0)))


def per_sample(rows: Sequence[Array], feed: Arrays) -> list[Array]:
    """A value per sample of each output: the worst for all of them, where an output has another number of rows.

    There are as many samples as the first input has, if an output agrees, else as the first output has.
    """
    fed = next((len(array) for array in feed.values() if array.ndim), 0)
    samples = fed if any(len(each) == fed for each in rows) else len(rows[0])
    return [each if len(each) == samples else np.full(samples, each.min(initial=1.0)) for each in rows]


def relative_errors(name: str, output: Array, expected: Array, feed: Arrays) -> Array:
    """Per sample, the squared error over the squares of what was expected, at most ``BROKEN``: noise over signal, the
    inverse of the SQNR. For integers and booleans, the share that differs. Raises MetricError when the shapes differ.
    """
    values, wanted, keep = aligned(name, output, expected, feed)
    if expected.dtype.kind != "f":
        shares: Array = ((values != wanted) & keep).sum(axis=1) / np.maximum(keep.sum(axis=1), 1)
        return shares
    with np.errstate(invalid="ignore", over="ignore"):
        noise = np.where(keep, (values - wanted) ** 2, 0.0).sum(axis=1)
        signal = np.where(keep, wanted**2, 0.0).sum(axis=1)
        ratio = noise / np.maximum(signal, np.finfo(np.float64).tiny)
    return np.where(np.isfinite(ratio), np.minimum(ratio, BROKEN), BROKEN)


def agreements(name: str, output: Array, expected: Array, feed: Arrays) -> tuple[Array, Array]:
    """Where the decisions are the same, and which of them count."""
    if output.shape != expected.shape:
        raise MetricError(f"output {name!r} has shape {list(output.shape)}, the reference's {list(expected.shape)}")
    seen = _unmasked(output, feed)
    if output.dtype.kind in "iub":
        return (output == expected) & seen, seen
    if output.ndim < 2 or output.shape[-1] == 1:
        ours, theirs = (classification.decided_by_one(name, array) for array in (output, expected))
    else:
        # A score per position (where does the answer start?): what is padding cannot be chosen.
        by_position = output.ndim == 2 and not seen.all()
        ours, theirs = (
            classification.decided(np.where(seen, a, -np.inf) if by_position else a) for a in (output, expected)
        )
        seen = np.ones(ours.shape, bool) if by_position else seen[..., 0]
    return (ours == theirs) & (ours != classification.UNDECIDED) & seen, seen


def correlation(left: Array, right: Array) -> float:
    """Pearson's; 0 where either does not vary."""
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / scale if scale else 0.0


def ranks(values: Array) -> Array:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _rows(array: Array) -> Array:
    return array.reshape(len(array) if array.ndim else 1, -1).astype(np.float64)


def _unmasked(output: Array, feed: Arrays) -> Array:
    """What of the output belongs to real positions: all of it, or what the attention mask of its shape shows."""
    mask = feed.get(MASK)
    if mask is None or mask.ndim != 2 or output.shape[:2] != mask.shape:
        return np.ones(output.shape, bool)
    shown = mask.astype(bool).reshape(*mask.shape, *[1] * (output.ndim - 2))
    return np.broadcast_to(shown, output.shape)


def _unit(rows: Array) -> Array:
    """Rows scaled to length one, zeros left as they are; first by their largest value, so that no square overflows."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    length = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return scaled / np.where(length > 0, length, 1.0)
