"""What a comparison says, in sentences: the same ones on the terminal and in reports."""

from __future__ import annotations

from optkit import units
from optkit.results import Comparison, Row


def speed(row: Row) -> str:
    """``1.92x faster (1.87 to 1.96)``, ``no difference (0.99 to 1.01)``; what the row is where there is no ratio."""
    if row.status == "failed":
        return "failed"
    if row.speedup is None or row.speed_verdict is None:
        return "baseline" if row.baseline else units.UNKNOWN
    low_to_high = units.interval(row.speedup.low, row.speedup.high)
    if row.speed_verdict in ("faster", "slower"):
        return f"{units.ratio(row.speedup.value)} {row.speed_verdict} {low_to_high}"
    return f"{row.speed_verdict} {low_to_high}"


def beyond(row: Row, max_drop: float | None) -> bool:
    """Whether the row's loss is larger than allowed."""
    loss = row.quality.loss if row.quality else None
    return max_drop is not None and loss is not None and loss.value > max_drop


def verdict(row: Row, comparison: Comparison) -> str:
    """One candidate against the baseline, in a sentence."""
    name = f"{row.name} on {row.target}"
    if row.status == "failed":
        return f"{name} failed: {row.reason}"
    parts = [speed(row), _size(row, comparison.rows[0]), _loss(row, comparison.max_drop)]
    return f"{name}: " + ", ".join(part for part in parts if part)


def _size(row: Row, baseline: Row) -> str:
    if row.model is None or baseline.model is None or not baseline.model.size_bytes:
        return ""
    return f"{units.percent(row.model.size_bytes / baseline.model.size_bytes)} of the size"


def _loss(row: Row, max_drop: float | None) -> str:
    quality = row.quality
    if quality is None or quality.loss is None:
        return ""
    loss = quality.loss
    lost = units.quality_interval(loss.value, loss.low, loss.high)
    text = f"{quality.metric} {units.quality(quality.value.value)}, loss {lost}"
    if max_drop is None:
        return text
    if beyond(row, max_drop):
        return f"{text}: beyond --max-drop {max_drop:g}"
    certainty = "" if loss.high <= max_drop else ", though the interval reaches beyond it"
    return f"{text}: within --max-drop {max_drop:g}{certainty}"
