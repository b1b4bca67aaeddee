"""A comparison on the terminal: what is fast, what is small and good, and a sentence for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import units, wording
from optkit.cli.console import Block, Table, Text
from optkit.results import Comparison, Evaluation, QualityRecord, Row
from optkit.runs import Transformation

_COLOURS = {"faster": "good:", "slower": "bad:", "inconclusive": "warn:"}


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """Tables that fit a hundred columns, one of speed for each batch size, and a sentence for each candidate."""
    assessed = any(row.quality for row in comparison.rows)
    sizes = list(dict.fromkeys(row.batch for row in comparison.rows))
    titles = [f"batch {size}" if len(sizes) > 1 else None for size in sizes]
    blocks: list[Block] = [
        _speed_table([row for row in comparison.rows if row.batch == size], title, with_size=not assessed)
        for size, title in zip(sizes, titles, strict=True)
    ]
    if assessed:
        blocks.append(_quality_table(comparison.rows, comparison.max_drop))
    return blocks + [_sentence(row, comparison) for row in comparison.rows if not row.baseline]


def evaluation_blocks(evaluation: Evaluation) -> list[Block]:
    """One table: the model, after its reference if there is one."""
    rows = [row for row in (evaluation.reference, evaluation.row) if row is not None]
    return [_quality_table(rows, max_drop=None)]


def transformation_blocks(done: Transformation) -> list[Block]:
    """What a stage made of which model, where it is, and how it compares."""
    stage = done.stage
    how = f" by {stage.engine} ({stage.method})" if stage.engine else ""
    sizes = f"{units.size(stage.source.size_bytes)} -> {units.size(stage.result.size_bytes)}"
    line = f"{done.output}: {stage.stage}{how} in {units.seconds(stage.seconds)}, {sizes}"
    compared = comparison_blocks(done.comparison) if done.comparison else []
    return [*compared, Text(line, style="bold")]


def _speed_table(rows: Sequence[Row], title: str | None, *, with_size: bool) -> Table:
    """Throughput is shown where it says more than the latency: for batches."""
    cells = [_speed_cells(row) for row in rows]
    hidden = ({"size"} if not with_size else set()) | ({"rate"} if rows[0].batch == 1 else set())
    columns = [name for name in cells[0] if name not in hidden]
    return Table(columns, [[row[name] for name in columns] for row in cells], title=title)


def _speed_cells(row: Row) -> dict[str, str]:
    latency = row.latency
    return {
        "model": row.name,
        "target": row.target,
        "size": _size(row),
        "median": units.seconds(latency.median if latency else None),
        "p90": units.seconds(latency.p90 if latency else None),
        "p99": units.seconds(latency.p99 if latency else None),
        "rate": units.rate(row.throughput),
        "memory": units.size(row.memory_bytes),
        "speed-up (95 %)": _speed_up(row),
    }


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
        columns += [assessed.metric, "loss (95 %)", "samples"]
    return Table(columns, [_quality_cells(row, assessed, max_drop) for row in rows])


def _quality_cells(row: Row, assessed: QualityRecord | None, max_drop: float | None) -> list[str]:
    cells = [row.name, row.target, _size(row)]
    if assessed is None:
        return cells
    if row.quality is None:
        return [*cells, units.UNKNOWN, units.UNKNOWN, units.UNKNOWN]
    return [*cells, units.quality(row.quality.value.value), _loss(row, max_drop), units.count(row.quality.count)]


def _size(row: Row) -> str:
    return units.size(row.model.size_bytes if row.model else None)


def _loss(row: Row, max_drop: float | None) -> str:
    loss = row.quality.loss if row.quality else None
    if loss is None:
        return units.UNKNOWN
    text = units.quality_interval(loss.value, loss.low, loss.high)
    return f"bad:{text}" if wording.beyond(row, max_drop) else text


def _sentence(row: Row, comparison: Comparison) -> Text:
    bad = row.status == "failed" or wording.beyond(row, comparison.max_drop)
    return Text(wording.verdict(row, comparison), style="red" if bad else "")
