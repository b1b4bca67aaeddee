"""Records of single layers: what INT8 does to each, and where the quality of a quantized model went."""

from __future__ import annotations

from optkit.results import Record


class LayerRecord(Record):
    """One layer and what quantizing it alone does. ``name`` is what ``--exclude`` takes to keep it in float.

    ``depth`` is its number in the order of execution, counted over all nodes. ``damage`` is the squared error of the
    model's outputs over their squares, summed over the outputs; ``local_error`` the same of the layer's own output.
    ``parameters`` are its weights, ``operations`` its multiplications for one feed.
    """

    name: str
    operator: str
    depth: int
    parameters: int
    operations: int
    damage: float
    local_error: float


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
