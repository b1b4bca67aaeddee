"""Comparison of models: size, quality, speed and memory in one record, every ratio with its interval."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from optkit.data.dataset import Dataset
from optkit.errors import UsageError
from optkit.measurement import quality, timing, workload
from optkit.measurement import recording as records
from optkit.measurement.candidate import Candidate
from optkit.measurement.quality import Assessment, Recording
from optkit.measurement.timing import Task, Timing
from optkit.measurement.warnings import find_warnings
from optkit.metrics.statistics import PRECISION, SECONDS
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison, Row, Scenario
from optkit.targets import libraries


def side_by_side(
    candidates: Sequence[Candidate],
    *,
    dataset: Dataset | None,
    metric: str | None = None,
    max_drop: float | None = None,
    batch: int = 1,
    seconds: float = SECONDS,
    precision: float = PRECISION,
    seed: int = 0,
    threads: int | None = None,
    scenario: Scenario = "single-stream",
    with_quality: bool = True,
    with_speed: bool = True,
    recording: Recording | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare the candidates with the first of them, the baseline; a ``recording`` holds its outputs from before.

    Without a dataset, speed is measured on synthetic inputs and quality is left out, as with ``with_quality=False``.
    ``with_speed=False`` leaves out speed and memory. A candidate that fails becomes a row with a reason. Raises the
    baseline's error, DataError or SignatureError for data that does not fit, MetricError.
    """
    started = time.monotonic()
    if dataset is None and (metric is not None or max_drop is not None):
        raise UsageError("quality needs data: --metric and --max-drop do nothing without it", hint="give --data DATA")
    candidates = with_distinct_names(candidates)
    work = workload.make_workload(candidates, dataset, batch, seed)
    assessments = [Assessment()] * len(candidates)
    if dataset is not None and with_quality:
        assessments = quality.assess(
            candidates, dataset, metric, batch=work.batch, seed=seed, recording=recording, progress=progress
        )
    alive = [entry for entry, found in zip(candidates, assessments, strict=True) if found.error is None]
    tasks = [Task(entry, work.feeds, work.batch) for entry in alive]
    measured = (
        timing.measure(tasks, seconds=seconds, precision=precision, seed=seed, progress=progress)
        if with_speed
        else timing.no_measurement()
    )
    by_name = {(found.candidate.name, found.candidate.target): found for found in measured.timings}
    rows = [
        row(entry, found, by_name.get((entry.name, entry.target)), work.batch)
        for entry, found in zip(candidates, assessments, strict=True)
    ]
    return Comparison(
        scenario=scenario,
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else records.of_dataset(dataset),
        threads=threads,
        batch=work.batch,
        launches=measured.launches,
        rounds=measured.rounds,
        precision=precision,
        max_drop=max_drop,
        machine=libraries.fingerprint(),
        seconds=time.monotonic() - started,
        notes=[*work.notes, *find_warnings(measured, seconds=seconds, precision=precision)],
    )


def with_distinct_names(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Give the candidates distinct names: equal file names become paths, and a repeated file gets a number."""
    names = [entry.name for entry in candidates]
    paths = {name: {entry.model.path for entry in candidates if entry.name == name} for name in names}
    apart: list[Candidate] = []
    for place, entry in enumerate(candidates):
        name = entry.name if len(paths[entry.name]) == 1 else str(entry.model.path)
        same = (entry.name, entry.model.path, entry.target)
        again = sum((other.name, other.model.path, other.target) == same for other in candidates[:place])
        apart.append(replace(entry, name=f"{name} ({again + 1})" if again else name))
    return apart


def row(candidate: Candidate, assessment: Assessment, timed: Timing | None = None, batch: int | None = None) -> Row:
    """Make the row of a candidate from its assessment and its timing."""
    reason = assessment.error.message if assessment.error else timed and timed.reason
    known = Row(
        name=candidate.name,
        target=candidate.target,
        model=records.of_model(candidate.model),
        options=candidate.options,
        status="failed" if reason else "ok",
        reason=reason,
        batch=batch,
        quality=assessment.quality,
    )
    return known if timed is None or timed.reason else known.model_copy(update=_measured(timed))


def _measured(timed: Timing) -> dict[str, object]:
    return {
        "latency": timed.latency,
        "throughput": timed.throughput.value if timed.throughput else None,
        "throughput_interval": timed.throughput,
        "speedup": timed.speedup,
        "speed_verdict": timed.verdict,
        "ratios": timed.ratios,
        "memory_bytes": timed.memory_bytes,
        "facts": timed.facts,
    }
