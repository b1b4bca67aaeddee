"""A comparison in sentences: the same ones on the terminal and in reports."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import units
from optkit.records.comparison import Comparison, LoadRecord, QualityRecord, Row


def cause(text: str, foremost: Sequence[str]) -> str:
    """Add to a cause the layers that contribute most."""
    return f"{text}; above all {units.listed(foremost)}" if foremost else text


def speed(row: Row) -> str:
    """Describe a row's speed: ``1.92x faster (95 %: 1.87 to 1.96)``, ``no difference (95 %: 0.99 to 1.01)``.

    A row without a speed-up is ``failed``, ``baseline`` or ``-``.
    """
    if row.status == "failed":
        return "failed"
    if row.speedup is None or row.speed_verdict is None:
        return "baseline" if row.baseline else units.UNKNOWN
    value, low, high = row.speedup.value, row.speedup.low, row.speedup.high
    if row.speed_verdict == "slower":
        value, low, high = 1 / value, 1 / high, 1 / low
    low_to_high = f"({row.speedup.confidence * 100:g} %: {units.interval(low, high)})"
    if row.speed_verdict in ("faster", "slower"):
        return f"{units.ratio(value)} {row.speed_verdict} {low_to_high}"
    return f"{row.speed_verdict} {low_to_high}"


def load(row: Row, comparison: Comparison) -> str:
    """Describe a row of the offline or the server scenario in a sentence."""
    if row.status == "failed" or row.load is None:
        return f"{row.title} failed: {row.reason}"
    if comparison.scenario == "offline":
        rest = "" if row.baseline else f", {speed(row)}"
        return f"{row.title}: {units.rate(row.throughput)} with batch {row.batch}, {_sessions(row.load)}{rest}"
    p99 = units.seconds(row.latency.p99 if row.latency else None)
    if row.load.p99_limit is None:
        return f"{row.title}: p99 {p99} at {units.rate(row.load.rate)}"
    refused = f"; {units.rate(row.load.refused_rate)} is too much" if row.load.refused_rate else ""
    limit = units.seconds(row.load.p99_limit)
    return f"{row.title}: {units.rate(row.load.rate)} within a p99 of {limit}{refused}"


def _sessions(load: LoadRecord) -> str:
    return f"{load.sessions} session{'s' if load.sessions > 1 else ''} of {load.threads} " + (
        "threads" if load.threads > 1 else "thread"
    )


def beyond(row: Row, max_drop: float | None) -> bool:
    """Return True if the row's loss is larger than ``max_drop``, in the metric's units."""
    loss = row.quality.loss if row.quality else None
    return max_drop is not None and loss is not None and loss.value > max_drop


def evidence(quality: QualityRecord) -> str:
    """Describe the evidence of a loss: ``McNemar p = 0.454, losses from 0.0080 on would show``; may be empty."""
    shown = f"losses from {units.quality(quality.detectable)} on would show" if quality.detectable else ""
    if quality.p_value is None:
        return shown
    return f"McNemar {units.p_value(quality.p_value)}, {shown or 'too few samples to show any loss'}"


def verdict(row: Row, comparison: Comparison) -> str:
    """Describe one candidate against the baseline in a sentence."""
    batches = {other.batch for other in comparison.rows}
    name = f"{row.name} on {row.target}" + (f" at batch {row.batch}" if len(batches) > 1 else "")
    if row.status == "failed":
        return f"{name} failed: {row.reason}"
    parts = [speed(row) if row.latency else "", _size(row, comparison.rows[0]), lost(row, comparison.max_drop)]
    told = ", ".join(part for part in parts if part)
    return f"{name}: {told}" if told else name


def _size(row: Row, baseline: Row) -> str:
    if row.model is None or baseline.model is None or not baseline.model.size_bytes:
        return ""
    share = row.model.size_bytes / baseline.model.size_bytes
    return "" if share == 1 else f"{units.percent(share)} of the size"


def lost(row: Row, max_drop: float | None) -> str:
    """Describe a loss with its evidence, and compare it with ``max_drop``.

    For example ``accuracy 0.8900, loss 0.0310 (0.0190 to 0.0430), McNemar p < 0.001: beyond --max-drop 0.01``.
    """
    quality = row.quality
    if quality is None or quality.loss is None:
        return ""
    loss = quality.loss
    interval = units.quality_interval(loss.value, loss.low, loss.high)
    told = evidence(quality)
    text = f"{quality.metric} {units.quality(quality.value.value)}, loss {interval}" + (f", {told}" if told else "")
    if max_drop is None:
        return text
    if beyond(row, max_drop):
        return f"{text}: beyond --max-drop {max_drop:g}"
    certainty = "" if loss.high <= max_drop else ", though the interval reaches beyond it"
    return f"{text}: within --max-drop {max_drop:g}{certainty}"
