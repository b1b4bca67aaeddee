"""Records of single layers: what INT8 does to each, and where the quality of a quantized model went."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.records.record import Record


class LayerRecord(Record):
    """One layer and what quantizing it alone does. ``name`` is what ``--exclude`` takes to keep it in float.

    ``depth`` is its number in the order of execution, counted over all nodes. ``damage`` is the squared error of the
    model's outputs over their squares, summed over the outputs; ``local_error`` the same of the layer's own output.
    ``parameters`` are its weights, ``operations`` its multiplications for one feed. ``nncf_only`` are layers that NNCF
    quantizes and the static method of onnxruntime does not.
    """

    name: str
    operator: str
    depth: int
    parameters: int
    operations: int
    damage: float
    local_error: float
    nncf_only: bool = False


class Sensitivity(Record):
    """All layers, those first that INT8 damages most.

    ``all_quantized`` is the damage with all of them quantized. ``samples`` were run, ``calibration_samples`` gave the
    ranges. ``weight_bits`` are 7 where 8 would saturate on this machine's CPU.
    """

    layers: list[LayerRecord]
    all_quantized: float
    samples: int
    calibration_samples: int
    weight_bits: int
    seconds: float


class LayerErrorRecord(Record):
    """One layer of the baseline, and how far the candidate is from it there, its inputs being off already.

    ``error`` is the squared error of ``tensor`` over its squares, ``cosine`` that between both, a sample's on average.
    ``introduced`` is by how much ``error``, as far as the layers right behind it show it too, exceeds that of the
    layers before it; ``share`` is its part of all that is introduced. ``exclude`` is what keeps the layer in float.
    """

    exclude: str
    operator: str
    tensor: str
    depth: int
    error: float
    cosine: float
    introduced: float
    share: float


class RangeRecord(Record):
    """What the candidate rounds an activation within, and what the baseline's values are on the evaluation samples.

    ``low`` and ``high`` are the candidate's, ``seen_low`` and ``seen_high`` the extremes. ``outside`` is the share of
    values that saturate, ``outside_calibration`` that of the calibration data where it was given, ``used`` the part of
    the range in which the middle 99 % of the values of every sample lie. ``vanished`` is the share of values that are
    not 0 and become 0, ``logarithm`` the operator that takes the logarithm of what is made of them, ``of_logarithm``
    whether the tensor is made of one with no layer between. ``channel_ratio`` is the largest channel's magnitude over
    the median channel's, ``channel`` its number. ``exclude`` are the operators
    that must stay in float for the tensor not to be rounded; ``unlike`` is whether more of its values than of the
    calibration data's saturate, by more than chance explains.
    """

    tensor: str
    exclude: list[str]
    low: float
    high: float
    seen_low: float
    seen_high: float
    outside: float
    outside_calibration: float | None = None
    unlike: bool = True
    used: float
    vanished: float = 0.0
    logarithm: str | None = None
    of_logarithm: bool = False
    channel: int | None = None
    channel_ratio: float | None = None


class LossFindingRecord(Record):
    """One reason for a loss: a word for programs, a line for the user, where, and what to try.

    ``exclude`` are names for ``--exclude``; ``options`` other options of ``quantize``.
    """

    kind: Literal[
        "jump", "everywhere", "logarithm", "dead-range", "outlier-channel", "out-of-range", "cut-off",
        "saturating-sums", "disturbed",
    ]  # fmt: skip
    text: str
    where: str | None = None
    exclude: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list)


class LayerErrors(Record):
    """Where the quality went between a float baseline and a quantized candidate, on ``samples`` evaluation samples.

    Layers are in the order of execution; ``unmatched`` of the baseline's have no tensor in the candidate. ``disturbed``
    is by how much the candidate's own outputs changed, as a relative error, when its tensors were made visible.
    """

    layers: list[LayerErrorRecord]
    ranges: list[RangeRecord]
    findings: list[LossFindingRecord]
    samples: int
    disturbed: float
    unmatched: int
    seconds: float
