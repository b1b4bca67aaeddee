"""``gate``: whether a candidate may be released."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.errors import UsageError
from optkit.measurement.candidate import TIME_LIMIT
from optkit.metrics.statistics import PRECISION
from optkit.progress import Progress, no_progress
from optkit.records.gate import Gate
from optkit.records.rules import Rules
from optkit.runs.gating import _EXAMPLE, _fresh, _Measuring, _of_record


def gate(
    candidate: str | Path | None = None,
    *,
    baseline: str | Path | None = None,
    record: str | Path | None = None,
    rules: Rules = Rules(),  # noqa: B008  frozen
    retry: bool = False,
    data: str | Path | None = None,
    metric: str | None = None,
    target: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    precision: float = PRECISION,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Gate:
    """Compare ``candidate`` with ``baseline`` now, or take the saved ``record`` of a run or comparison, and judge.

    ``retry`` measures three times as long where the first try was inconclusive and more time may tell. A ``baseline``
    that is a saved record stands for the model that it chose, which is measured now.

    In a ``record``, ``candidate`` names the row; by default the only one, or the one that the run chose. The rules of
    the run's recipe hold too, but for those given here. What another machine recorded is measured here, where both
    models and the data are at hand. Else only ratios are judged: raises UsageError where a rule is absolute (p99,
    throughput, memory).
    """
    opening: dict[str, Any] = {"inputs": inputs, "code": code, "trust": trust, "time_limit": time_limit}
    measuring = _Measuring(data, metric, threads, batch, seconds, precision, seed, retry, progress, opening)
    if record is not None:
        if baseline is not None:
            raise UsageError("--record holds its own baseline, and --baseline names another", hint=_EXAMPLE)
        return _of_record(Path(record), None if candidate is None else str(candidate), rules, measuring)
    if candidate is None or baseline is None:
        raise UsageError("a gate compares a candidate with a baseline", hint=_EXAMPLE)
    return _fresh(candidate, baseline, {"target": target, "device": device}, rules, measuring)
