"""The choice of a comparison's result: the best row inside the bound, or the baseline where nothing beats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optkit import units
from optkit.notes import Note
from optkit.options.verbs.optimize import Goal
from optkit.records import sentences
from optkit.records.comparison import Comparison, QualityRecord, Row

_NEGLIGIBLE = 0.01
"""The loss of fidelity to the baseline's outputs that passes without a given bound: cosine 0.99, 99 % agreement."""
_BOUNDED = ("cosine", "agreement")
"""Measures of fidelity that have the same meaning for every model."""
_ALIKE = 0.97
"""The share of the highest speed-up that a smaller file must reach to be preferred."""
_LESS_MEMORY = 0.98
"""The share of the baseline's peak memory below which a peak counts as less: those of one model differ by 1 %."""


@dataclass(frozen=True)
class Wish:
    """The goal of a search, and hard limits."""

    goal: Goal = "latency"
    """The figure that the result is to be best at."""
    max_size: int | None = None
    """The largest size allowed on disk, in bytes."""
    max_p99: float | None = None
    """The largest 99 % quantile of the latency allowed, in seconds."""

    def allows(self, row: Row) -> bool:
        """Return True if the row keeps the limits; an unknown figure keeps none."""
        if self.max_size is not None and _size_bytes(row) > self.max_size:
            return False
        p99 = row.latency.p99 if row.latency else None
        return self.max_p99 is None or (p99 is not None and p99 <= self.max_p99)

    def beats(self, row: Row, baseline: Row) -> bool:
        """Return True if the row is better at the goal and not slower than the baseline.

        For the goals of speed, better is faster, or smaller at no difference in speed. Where the baseline breaks a
        limit, every row that keeps the limits beats it.
        """
        if row.status == "failed":
            return False
        if not self.allows(baseline):
            return self.allows(row)
        if self.goal in ("latency", "throughput"):
            smaller = row.speed_verdict == "no difference" and _size_bytes(row) < _size_bytes(baseline)
            return smaller or row.speed_verdict == "faster"
        less = _size_bytes(row) < _size_bytes(baseline) if self.goal == "size" else _needs_less(row, baseline)
        return less and row.speed_verdict in ("faster", "no difference")

    def best(self, rows: Sequence[Row], baseline: Row) -> Row:
        """Return the best of the rows; of the fastest, where intervals cannot tell them apart, the smallest."""
        if self.goal == "size":
            return min(rows, key=_size_bytes, default=baseline)
        if self.goal == "memory":
            return min(rows, key=_memory_bytes, default=baseline)
        return min(_fastest(rows), key=_size_bytes, default=baseline)


def choose(comparison: Comparison, wish: Wish | None = None, *, refused: Sequence[Row] = ()) -> tuple[Row, list[Note]]:
    """Return the best candidate that beats the baseline inside the bound, else the baseline, and notes on the choice.

    Without ``max_drop`` the interval of the loss must reach down to 0. ``refused`` are rows that lost too much on other
    samples.
    """
    wish = wish or Wish()
    baseline, *others = comparison.rows
    better = [row for row in others if wish.beats(row, baseline) and wish.allows(row)]
    within = [row for row in better if inside(row.quality, comparison.max_drop) and row not in refused]
    best = wish.best(within, baseline)
    return best, [*_quality_unknown(best), *_left_out(best, better, within, comparison.max_drop, refused)]


def inside(quality: QualityRecord | None, max_drop: float | None) -> bool:
    """Return True if the loss is inside the bound; without a measured loss it is."""
    if quality is None or quality.loss is None:
        return True
    if max_drop is not None:
        return quality.loss.value <= max_drop
    if quality.needs_labels:
        return quality.loss.low <= 0
    return quality.metric.partition(":")[0] in _BOUNDED and quality.loss.value <= _NEGLIGIBLE


def _needs_less(row: Row, baseline: Row) -> bool:
    return _memory_bytes(row) < _LESS_MEMORY * _memory_bytes(baseline)


def _fastest(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose interval overlaps that of the highest speed-up and whose value is at least 97 % of it.

    The second condition counts where little was measured and intervals are wide.
    """
    top = max(rows, key=speed, default=None)
    if top is None or top.speedup is None:
        return []
    near = [row for row in rows if row.speedup is not None and row.speedup.high >= top.speedup.low]
    return [row for row in near if speed(row) >= _ALIKE * speed(top)]


def speed(row: Row) -> float:
    """Return the speed-up over the baseline; 1 for the baseline itself."""
    return row.speedup.value if row.speedup else 1.0


def _size_bytes(row: Row) -> float:
    return row.model.size_bytes if row.model else float("inf")


def _memory_bytes(row: Row) -> float:
    return row.memory_bytes or float("inf")


def _quality_unknown(best: Row) -> list[Note]:
    if best.baseline or best.quality is not None:
        return []
    return [Note("chosen by its speed alone: without data its quality is unknown", best.title, "warning")]


def _left_out(
    best: Row, better: Sequence[Row], within: Sequence[Row], max_drop: float | None, refused: Sequence[Row]
) -> list[Note]:
    """Note for each faster row why it is not the result."""
    bound = f"max_drop {max_drop:g}" if max_drop is not None else "the bound that holds where no max_drop is given"
    faster = [row for row in better if row not in within and speed(row) > speed(best)]
    said = {id(row): "with the samples that it was looked at on, its loss" for row in refused}
    return [
        Note(f"not chosen, {sentences.speed(row)}: {said.get(id(row)) or _loss(row)} is beyond {bound}", row.title)
        for row in faster
    ]


def _loss(row: Row) -> str:
    quality = row.quality
    if quality is None or quality.loss is None:
        return "its loss"
    return f"a loss of {units.quality(quality.loss.value)} in {quality.metric}"
