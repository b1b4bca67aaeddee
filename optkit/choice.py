"""Which row of a comparison is the result: the best inside the bound, and the baseline where nothing beats it."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import units, wording
from optkit.results import Comparison, QualityRecord, Row
from optkit.stage import Note

_NEGLIGIBLE = 0.01
"""The loss of fidelity to the baseline's outputs that passes where nobody gave a bound: cosine 0.99, 99 % agreement."""
_BOUNDED = ("cosine", "agreement")
"""Measures of fidelity that have the same meaning for every model."""


def choose(comparison: Comparison) -> tuple[Row, list[Note]]:
    """The fastest candidate that beats the baseline inside the bound, else the baseline; and what to know about it.

    To beat it is to be faster, or smaller at no difference in speed. Where the intervals cannot tell candidates apart
    from the fastest, the smallest of them is taken. Without ``max_drop`` the bound is that the loss must not be clearly
    above nothing.
    """
    baseline, *others = comparison.rows
    better = [row for row in others if _beats(row, baseline)]
    within = [row for row in better if inside(row.quality, comparison.max_drop)]
    best = min(_fastest(within), key=_size_bytes, default=baseline)
    return best, [*_quality_unknown(best), *_left_out(best, better, within, comparison.max_drop)]


def inside(quality: QualityRecord | None, max_drop: float | None) -> bool:
    """Whether the loss is inside the bound; where no quality was asked for, it is."""
    if quality is None or quality.loss is None:
        return True
    if max_drop is not None:
        return quality.loss.value <= max_drop
    if quality.needs_labels:
        return quality.loss.low <= 0
    return quality.metric.partition(":")[0] in _BOUNDED and quality.loss.value <= _NEGLIGIBLE


def _beats(row: Row, baseline: Row) -> bool:
    if row.status == "failed":
        return False
    if row.speed_verdict == "no difference":
        return _size_bytes(row) < _size_bytes(baseline)
    return row.speed_verdict == "faster"


def _fastest(rows: Sequence[Row]) -> list[Row]:
    """The rows whose speed-up may be the highest, as far as the intervals tell."""
    top = max(rows, key=_speed, default=None)
    if top is None or top.speedup is None:
        return []
    return [row for row in rows if row.speedup is not None and row.speedup.high >= top.speedup.low]


def _size_bytes(row: Row) -> float:
    return row.model.size_bytes if row.model else float("inf")


def _speed(row: Row) -> float:
    return row.speedup.value if row.speedup else 1.0


def _quality_unknown(best: Row) -> list[Note]:
    if best.baseline or best.quality is not None:
        return []
    return [Note("chosen by its speed alone: without data its quality is unknown", best.title, "warning")]


def _left_out(best: Row, better: Sequence[Row], within: Sequence[Row], max_drop: float | None) -> list[Note]:
    """Why a faster row is not the result."""
    bound = f"max_drop {max_drop:g}" if max_drop is not None else "the bound that holds where no max_drop is given"
    faster = [row for row in better if row not in within and _speed(row) > _speed(best)]
    return [Note(f"not chosen, {wording.speed(row)}: {_loss(row)} is beyond {bound}", row.title) for row in faster]


def _loss(row: Row) -> str:
    quality = row.quality
    if quality is None or quality.loss is None:
        return "its loss"
    return f"a loss of {units.quality(quality.loss.value)} in {quality.metric}"
