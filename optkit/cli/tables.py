"""A comparison on the terminal: what is fast, what is small and good, and a sentence for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import units, wording
from optkit.cli.console import Block, Table, Text
from optkit.results import Comparison, Evaluation, QualityRecord, Row

_COLOURS = {"faster": "good:", "slower": "bad:", "inconclusive": "warn:"}


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """Tables of at most a hundred columns, and a sentence for each candidate."""
    blocks: list[Block] = [_speed_table(comparison), _quality_table(comparison.rows, comparison.max_drop)]
    blocks += [_sentence(row, comparison) for row in comparison.rows if not row.baseline or row.status == "failed"]
    return blocks


def evaluation_blocks(evaluation: Evaluation) -> list[Block]:
    """One table: the model, after its reference if there is one."""
    rows = [row for row in (evaluation.reference, evaluation.row) if row is not None]
    return [_quality_table(rows, max_drop=None)]


def _speed_table(comparison: Comparison) -> Table:
    batches = len({row.batch for row in comparison.rows}) > 1
    columns = ("model", "target", *(["batch"] if batches else []), "median", "p90", "p99", "rate", "memory", "speed-up")
    return Table(columns, [_speed_cells(row, batches) for row in comparison.rows])


def _speed_cells(row: Row, batches: bool) -> list[str]:
    batch = [units.count(row.batch)] if batches else []
    latency = row.latency
    times = (latency.median, latency.p90, latency.p99) if latency else (None, None, None)
    return [
        row.name,
        row.target,
        *batch,
        *map(units.seconds, times),
        units.rate(row.throughput),
        units.size(row.memory_bytes),
        _speed_up(row),
    ]


def _speed_up(row: Row) -> str:
    if row.status == "failed":
        return "bad:failed"
    if row.speedup is None:
        return wording.speed(row)
    text = units.ratio_interval(row.speedup.value, row.speedup.low, row.speedup.high)
    return _COLOURS.get(row.speed_verdict or "", "") + text


def _quality_table(rows: Sequence[Row], max_drop: float | None) -> Table:
    assessed = next((row.quality for row in rows if row.quality), None)
    columns = ["model", "target", "size"]
    if assessed:
        columns += [assessed.metric, "loss", "samples"]
    return Table(columns, [_quality_cells(row, assessed, max_drop) for row in rows])


def _quality_cells(row: Row, assessed: QualityRecord | None, max_drop: float | None) -> list[str]:
    cells = [row.name, row.target, units.size(row.model.size_bytes if row.model else None)]
    if assessed is None:
        return cells
    if row.quality is None:
        return [*cells, units.UNKNOWN, units.UNKNOWN, units.UNKNOWN]
    value = row.quality.value
    return [
        *cells,
        units.quality_interval(value.value, value.low, value.high),
        _loss(row, max_drop),
        units.count(row.quality.count),
    ]


def _loss(row: Row, max_drop: float | None) -> str:
    loss = row.quality.loss if row.quality else None
    if loss is None:
        return units.UNKNOWN
    text = units.quality_interval(loss.value, loss.low, loss.high)
    return f"bad:{text}" if wording.beyond(row, max_drop) else text


def _sentence(row: Row, comparison: Comparison) -> Text:
    bad = row.status == "failed" or wording.beyond(row, comparison.max_drop)
    return Text(wording.verdict(row, comparison), style="red" if bad else "")
