"""Order in which layers are kept in float: the most damage per multiplication first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optkit.records.layers import LayerRecord, Sensitivity

_REMAINING = (0.5, 0.25, 0.1, 0.04, 0.015, 0.005, 1e-3, 1e-4, 1e-5)
"""Shares of the layers' damage that may remain, tried in turn. They get tiny because, beside one layer that ruins
everything, the damage of the others is a tiny share, and may still be too large.
"""


def order_layers(sensitivity: Sensitivity) -> list[LayerRecord]:
    """Sort the layers by damage per multiplication; multiplications stand for the time that INT8 saves."""
    return sorted(sensitivity.layers, key=lambda layer: layer.damage / max(1, layer.operations), reverse=True)


def counts(order: Sequence[LayerRecord]) -> Iterator[int]:
    """Yield growing numbers of layers, from the front of ``order``, to keep in float; never all of them.

    Each leaves at most the next of a list of falling shares of the damage.
    """
    total, given = sum(layer.damage for layer in order), 0
    for share in _REMAINING:
        before, rest = given, sum(layer.damage for layer in order[given:])
        while given < len(order) - 1 and rest > share * total:
            rest -= order[given].damage
            given += 1
        if given > before:
            yield given


def remaining(order: Sequence[LayerRecord], count: int) -> float:
    """Return the share of the damage that remains with the first ``count`` layers in float."""
    total = sum(layer.damage for layer in order)
    return sum(layer.damage for layer in order[count:]) / total if total else 0.0


def fewest(layers: Sequence[LayerRecord], remaining: float, most: int) -> tuple[list[LayerRecord], float]:
    """Choose the fewest layers without which at most the share ``remaining`` of the damage is left.

    Chooses at most ``most`` layers, and never all. Also returns the share that is left.
    """
    order = sorted(layers, key=lambda layer: -layer.damage)
    total = sum(layer.damage for layer in order)
    chosen: list[LayerRecord] = []
    rest = total
    while total and rest > remaining * total and len(chosen) < min(most, len(order) - 1):
        chosen.append(order[len(chosen)])
        rest = sum(layer.damage for layer in order[len(chosen) :])
    return chosen, rest / total if total else 0.0
