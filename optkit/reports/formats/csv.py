"""A run as CSV for a spreadsheet: a line for each row of the comparison, numbers in seconds and bytes."""

from __future__ import annotations

import csv
import io
from typing import Any

from optkit.records.comparison import Row
from optkit.records.record import Interval
from optkit.records.run import Run


def render(run: Run) -> str:
    """Return the comparison as CSV with a header; the header alone where nothing was compared."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(_values(_NOTHING)), lineterminator="\n")
    writer.writeheader()
    for row in run.comparison.rows if run.comparison else []:
        writer.writerow(_values(row) | {"chosen": row.title == run.chosen})
    return out.getvalue()


_NOTHING = Row(name="", target="")


def _values(row: Row) -> dict[str, Any]:
    latency, quality = row.latency, row.quality
    return {
        "model": row.name,
        "target": row.target,
        "status": row.status,
        "reason": row.reason,
        "baseline": row.baseline,
        "chosen": False,
        "batch": row.batch,
        "size_bytes": row.model.size_bytes if row.model else None,
        "median_seconds": latency.median if latency else None,
        "p90_seconds": latency.p90 if latency else None,
        "p99_seconds": latency.p99 if latency else None,
        "throughput": row.throughput,
        "memory_bytes": row.memory_bytes,
        **_interval("speedup", row.speedup),
        "speed_verdict": row.speed_verdict,
        "metric": quality.metric if quality else None,
        "samples": quality.count if quality else None,
        **_interval("quality", quality.value if quality else None),
        **_interval("loss", quality.loss if quality else None),
        "test": quality.test if quality else None,
        "p_value": quality.p_value if quality else None,
        "detectable": quality.detectable if quality else None,
    }


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
