"""Records of single layers: the damage that INT8 does to each, and the layers where quality was lost."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.records.record import Record


class LayerRecord(Record):
    """One layer, and the damage that quantizing it alone does."""

    name: str
    """The node's name; ``--exclude`` with this name keeps the layer in float."""
    operator: str
    """The layer's ONNX operator."""
    depth: int
    """Position in the order of execution, from 0, counted over all nodes."""
    parameters: int
    """Number of weights; 0 for a product of two activations."""
    operations: int
    """Multiplications for one feed."""
    damage: float
    """Relative error of the model's outputs with only this layer quantized: squared error over the outputs' squares,
    averaged over the samples, summed over the outputs. An integer output's error is the share of values that differ.
    """
    local_error: float
    """Relative error of the layer's own output, squared error over squares, averaged over the samples."""
    nncf_only: bool = False
    """True if NNCF quantizes the layer and onnxruntime's static method does not."""


class Sensitivity(Record):
    """The damage that INT8 does to each layer of a model, one layer at a time."""

    layers: list[LayerRecord]
    """All layers, the most damaged first."""
    all_quantized: float
    """Relative error of the model's outputs with all layers quantized; measured as each layer's ``damage``."""
    samples: int
    """Number of samples that the damage is averaged over."""
    calibration_samples: int
    """Number of samples that the calibration ranges were taken from."""
    weight_bits: int
    """Bits of the quantized weights: 8, or 7 where sums of 8-bit products would saturate on this machine's CPU."""
    seconds: float
    """Seconds that the measurement took."""


class LayerErrorRecord(Record):
    """One layer of the baseline, and the candidate's error there; the errors of the layers before are part of it."""

    exclude: str
    """The name for ``--exclude`` that keeps the layer in float."""
    operator: str
    """The layer's operator, of ONNX or of OpenVINO."""
    tensor: str
    """The tensor by which both models are compared: the layer's output, or that of an operator fused behind it."""
    depth: int
    """Position in the order of execution, from 0, counted over all operations."""
    error: float
    """Relative error of ``tensor``: squared error over the baseline's squares, averaged over the samples."""
    cosine: float
    """Cosine between the baseline's and the candidate's ``tensor``, from -1 to 1, averaged over the samples."""
    introduced: float
    """The part of ``error`` that the layer adds: its excess over the errors of the layers before it, as far as the
    layers right behind show it too; 0 where there is none.
    """
    share: float
    """``introduced`` over its sum of all layers, from 0 to 1."""


class RangeRecord(Record):
    """The range within which the candidate quantizes an activation, and the baseline's values of it."""

    tensor: str
    """The activation's tensor."""
    exclude: list[str]
    """The operators, as names for ``--exclude``, that must stay in float for the tensor not to be quantized."""
    low: float
    """The smallest value that the candidate's scale and zero point can represent."""
    high: float
    """The largest value that the candidate's scale and zero point can represent."""
    seen_low: float
    """The baseline's smallest value on the evaluation samples."""
    seen_high: float
    """The baseline's largest value on the evaluation samples."""
    outside: float
    """Share of the values on the evaluation samples that saturate, from 0 to 1."""
    outside_calibration: float | None = None
    """Share of the values on the calibration samples that saturate, from 0 to 1; null without calibration data."""
    unlike: bool = True
    """True if more of the values saturate than of the calibration data's, by more than chance explains; without
    calibration data, or where none of its values saturates, true if any value does.
    """
    used: float
    """Share of the range in which the middle 99 % of every sample's values lie, from 0 to 1."""
    vanished: float = 0.0
    """Share of the values that are not 0 and become 0 (underflow), from 0 to 1."""
    logarithm: str | None = None
    """Name of the operator that takes a logarithm of a value computed from the tensor; null where none does."""
    of_logarithm: bool = False
    """True if the tensor is computed from a logarithm with no layer in between."""
    channel: int | None = None
    """Index of the channel with the largest magnitude, from 0; null with fewer than four channels or where half of them
    are all zeros.
    """
    channel_ratio: float | None = None
    """The largest magnitude of that channel over the median channel's; null where ``channel`` is."""


class LossFindingRecord(Record):
    """One place or cause of a loss, and a remedy."""

    kind: Literal[
        "jump", "everywhere", "logarithm", "dead-range", "outlier-channel", "out-of-range", "cut-off",
        "saturating-sums", "disturbed",
    ]  # fmt: skip
    """A fixed word for programs. Places: ``jump`` (few layers introduce most of the error), ``everywhere`` (no few do).
    Causes: ``logarithm`` (values become 0 ahead of a logarithm), ``dead-range`` (outliers make the range wide),
    ``outlier-channel`` (one channel is far larger than the others), ``out-of-range`` (values that calibration did not
    see saturate), ``cut-off`` (the calibration method cut extremes off), ``saturating-sums`` (8-bit products overflow
    16-bit sums). Doubt: ``disturbed`` (making tensors visible changed the outputs).
    """
    text: str
    """The sentence that the user reads."""
    where: str | None = None
    """A layer's name or a tensor's; null where the finding is about the whole model."""
    exclude: list[str] = Field(default_factory=list)
    """Names for ``--exclude`` that keep the affected operators in float."""
    options: list[str] = Field(default_factory=list)
    """Other options of ``quantize`` to try."""


class LayerErrors(Record):
    """The error of each layer and the fit of each range, between a float baseline and a quantized candidate."""

    layers: list[LayerErrorRecord]
    """The layers whose tensor both models have, in the order of execution."""
    ranges: list[RangeRecord]
    """The activations that the candidate quantizes within fixed ranges, in the model's order."""
    findings: list[LossFindingRecord]
    """Places and causes, the place where the error is introduced first."""
    samples: int
    """Number of evaluation samples that were run."""
    disturbed: float
    """Relative error by which the candidate's outputs changed when its tensors were made visible: squared error over
    squares, of the worst output. 0 where nothing changed.
    """
    unmatched: int
    """Number of the baseline's layers without a counterpart in the candidate."""
    seconds: float
    """Seconds that the comparison took."""
