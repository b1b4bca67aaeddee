"""Which layers to give back to float first, and how many at a time: the most damage for the least work comes first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optkit.records.layers import LayerRecord, Sensitivity

_REMAINING = (0.5, 0.25, 0.1, 0.04, 0.015, 0.005, 1e-3, 1e-4, 1e-5)
"""Shares of the layers' damage that may remain, tried in turn. Beside one layer that ruins everything, what others do
is next to nothing, and may be too much all the same.
"""


def ordered(sensitivity: Sensitivity) -> list[LayerRecord]:
    """The layers by their damage for each multiplication, which stands for the time that integers save on it."""
    return sorted(sensitivity.layers, key=lambda layer: layer.damage / max(1, layer.operations), reverse=True)


def counts(order: Sequence[LayerRecord]) -> Iterator[int]:
    """How many of the first layers to keep in float, step by step, so that ever less damage remains; never all."""
    total, given = sum(layer.damage for layer in order), 0
    for share in _REMAINING:
        before, rest = given, sum(layer.damage for layer in order[given:])
        while given < len(order) - 1 and rest > share * total:
            rest -= order[given].damage
            given += 1
        if given > before:
            yield given


def remaining(order: Sequence[LayerRecord], count: int) -> float:
    """The share of the layers' damage that the ones behind the first ``count`` do."""
    total = sum(layer.damage for layer in order)
    return sum(layer.damage for layer in order[count:]) / total if total else 0.0


def fewest(layers: Sequence[LayerRecord], remaining: float, most: int) -> tuple[list[LayerRecord], float]:
    """The fewest layers, at most ``most``, behind which this share of the damage or less remains; and what does remain.

    Never all of them.
    """
    order = sorted(layers, key=lambda layer: -layer.damage)
    total = sum(layer.damage for layer in order)
    chosen: list[LayerRecord] = []
    rest = total
    while total and rest > remaining * total and len(chosen) < min(most, len(order) - 1):
        chosen.append(order[len(chosen)])
        rest = sum(layer.damage for layer in order[len(chosen) :])
    return chosen, rest / total if total else 0.0
