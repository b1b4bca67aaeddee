"""Tables of a comparison on the terminal: speed, size and quality, and a sentence for each candidate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from optkit import units
from optkit.cli.console import Block, Table, Text
from optkit.records import sentences as wording
from optkit.records.comparison import Comparison, Evaluation, QualityRecord, Row
from optkit.records.record import Interval
from optkit.records.run import Transformation
from optkit.reports.sheet import Cell, Tone

Cells = dict[str, str | Cell]
"""A row's cells by their column."""
_TONES: dict[str, Tone] = {"faster": "good", "slower": "bad", "inconclusive": "warn"}


def benchmark_blocks(comparison: Comparison) -> list[Block]:
    """Show the figures under the scenario's load: latencies with their intervals, throughput, or the highest rate."""
    rows = comparison.rows
    if comparison.scenario in ("offline", "server"):
        cells = _offline_cells if comparison.scenario == "offline" else _server_cells
        sentences = [Text(wording.load(row, comparison), style=_style(row)) for row in rows]
        return [_table(map(cells, rows)), *sentences]
    sentences = [_sentence(row, comparison) for row in rows if not row.baseline]
    hidden = {"batch"} if len({row.batch for row in rows}) == 1 else set()
    return [_table(map(_percentile_cells, rows), hidden), _table(map(_cost_cells, rows), hidden), *sentences]


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """Show tables within a hundred columns, one of speed for each batch size, and a sentence for each candidate."""
    assessed = any(row.quality for row in comparison.rows)
    sizes = list(dict.fromkeys(row.batch for row in comparison.rows))
    titles = [f"batch {size}" if len(sizes) > 1 else None for size in sizes]
    timed = any(row.latency or row.status == "failed" for row in comparison.rows)
    blocks: list[Block] = [
        _speed_table([row for row in comparison.rows if row.batch == size], title, with_size=not assessed)
        for size, title in zip(sizes, titles, strict=True)
        if timed
    ]
    if assessed:
        blocks.append(_quality_table(comparison.rows, comparison.max_drop))
    return blocks + [_sentence(row, comparison) for row in comparison.rows if not row.baseline]


def evaluation_blocks(evaluation: Evaluation) -> list[Block]:
    """Show one table: the model, after its reference if there is one."""
    rows = [row for row in (evaluation.reference, evaluation.row) if row is not None]
    return [_quality_table(rows, max_drop=None)]


def transformation_blocks(done: Transformation) -> list[Block]:
    """Show source and result of a stage, the result's path, and the comparison of both."""
    stage = done.stage
    how = f" by {stage.engine} ({stage.method})" if stage.engine else ""
    sizes = f"{units.size(stage.source.size_bytes)} -> {units.size(stage.result.size_bytes)}"
    line = f"{done.output}: {stage.stage}{how} in {units.seconds(stage.seconds)}, {sizes}"
    compared = comparison_blocks(done.comparison) if done.comparison else []
    return [*compared, Text(line, style="bold")]


def _speed_table(rows: Sequence[Row], title: str | None, *, with_size: bool) -> Table:
    """Make the table of speed; throughput has a column for batches alone, where it says more than the latency."""
    cells = [_speed_cells(row) for row in rows]
    hidden = ({"size"} if not with_size else set()) | ({"rate"} if rows[0].batch == 1 else set())
    columns = [name for name in cells[0] if name not in hidden]
    return Table(columns, [[row[name] for name in columns] for row in cells], title=title)


def _speed_cells(row: Row) -> Cells:
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


def _percentile_cells(row: Row) -> Cells:
    cells: Cells = {"model": row.name, "target": row.target, "batch": units.count(row.batch)}
    for name in ("median", "p90", "p99"):
        interval: Interval | None = getattr(row.latency, f"{name}_interval", None)
        shown = units.seconds_interval(interval.value, interval.low, interval.high) if interval else None
        cells[f"{name} (95 %)"] = shown or units.seconds(getattr(row.latency, name, None))
    return cells


def _offline_cells(row: Row) -> Cells:
    rate = row.throughput_interval
    return {
        "model": row.name,
        "target": row.target,
        "batch": units.count(row.batch if row.load else None),
        "sessions x threads": _sessions(row),
        "samples/s (95 %)": units.rate_interval(rate.value, rate.low, rate.high) if rate else units.UNKNOWN,
        "memory": units.size(row.memory_bytes),
        "speed-up (95 %)": _speed_up(row),
    }


def _server_cells(row: Row) -> Cells:
    return {
        "model": row.name,
        "target": row.target,
        "sessions x threads": _sessions(row),
        "queries/s": units.rate(row.load.rate if row.load else None),
        **{name: text for name, text in _percentile_cells(row).items() if name.startswith(("median", "p99"))},
        "memory": units.size(row.memory_bytes),
    }


def _cost_cells(row: Row) -> Cells:
    return {
        "model": row.name,
        "target": row.target,
        "batch": units.count(row.batch),
        "size": _size(row),
        "memory": units.size(row.memory_bytes),
        "rate": units.rate(row.throughput),
        "speed-up (95 %)": _speed_up(row),
    }


def _table(rows: Iterable[Cells], hidden: Collection[str] = ()) -> Table:
    cells = list(rows)
    columns = [name for name in cells[0] if name not in hidden]
    return Table(columns, [[row[name] for name in columns] for row in cells])


def _sessions(row: Row) -> str:
    """``2 x 1``."""
    return f"{row.load.sessions} x {row.load.threads}" if row.load else units.UNKNOWN


def _style(row: Row) -> str:
    return "red" if row.status == "failed" else ""


def _speed_up(row: Row) -> Cell:
    if row.status == "failed":
        return Cell("failed", "bad")
    if row.speedup is None:
        return Cell(wording.speed(row))
    text = units.ratio_interval(row.speedup.value, row.speedup.low, row.speedup.high)
    return Cell(text, _TONES.get(row.speed_verdict or "", ""))


def _quality_table(rows: Sequence[Row], max_drop: float | None) -> Table:
    assessed = next((row.quality for row in rows if row.quality), None)
    columns = ["model", "target", "size"]
    if assessed:
        columns += [assessed.metric, "loss (95 %)", "samples"]
    return Table(columns, [_quality_cells(row, assessed, max_drop) for row in rows])


def _quality_cells(row: Row, assessed: QualityRecord | None, max_drop: float | None) -> list[str | Cell]:
    cells: list[str | Cell] = [row.name, row.target, _size(row)]
    if assessed is None:
        return cells
    if row.quality is None:
        return [*cells, units.UNKNOWN, units.UNKNOWN, units.UNKNOWN]
    return [*cells, units.quality(row.quality.value.value), _loss(row, max_drop), units.count(row.quality.count)]


def _size(row: Row) -> str:
    return units.size(row.model.size_bytes if row.model else None)


def _loss(row: Row, max_drop: float | None) -> Cell:
    loss = row.quality.loss if row.quality else None
    if loss is None:
        return Cell(units.UNKNOWN)
    text = units.quality_interval(loss.value, loss.low, loss.high)
    return Cell(text, "bad" if wording.beyond(row, max_drop) else "")


def _sentence(row: Row, comparison: Comparison) -> Text:
    bad = row.status == "failed" or wording.beyond(row, comparison.max_drop)
    return Text(wording.verdict(row, comparison), style="red" if bad else "")
