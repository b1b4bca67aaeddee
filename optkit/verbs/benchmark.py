"""``benchmark``: latency percentiles, throughput and peak memory, under four kinds of load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.data import dataset as datasets
from optkit.errors import UsageError
from optkit.measurement import comparison, offline, server
from optkit.measurement.candidate import TIME_LIMIT, candidate
from optkit.measurement.server import Demand
from optkit.metrics.statistics import PRECISION
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison, Scenario

_STREAMS = 8
"""Samples that arrive together in the multi-stream scenario, as in MLPerf's."""


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    scenario: Scenario = "single-stream",
    batch: int | Sequence[int] | None = None,
    sessions: int | None = None,
    rate: float | None = None,
    max_p99: float | None = None,
    data: str | Path | None = None,
    target: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    seconds: float = 10.0,
    precision: float = PRECISION,
    seed: int = 0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
    progress: Progress = no_progress,
) -> Comparison:
    """Time one or several models (a path, a bundle or ``PATH@TARGET``), the others compared with the first.

    ``single-stream``: the latency of one inference after the other. ``multi-stream``: the same for ``batch`` samples
    together (8). ``offline``: the highest throughput, over batches and parallel sessions. ``server``: queries arriving
    at random, at a ``rate`` per second or at the highest that keeps ``max_p99`` seconds. Raises OptkitError.
    """
    sizes = [batch] if isinstance(batch, int) else list(batch or ())
    _check(scenario, sizes, sessions=sessions, rate=rate, max_p99=max_p99)
    demand = Demand(rate, max_p99) if scenario == "server" else None
    sources = [models] if isinstance(models, str | Path) else list(models)
    opened = [
        candidate(
            source,
            target=target,
            device=device,
            threads=threads,
            inputs=inputs,
            code=code,
            trust=trust,
            time_limit=time_limit,
        )
        for source in sources
    ]
    signature = opened[0].model.signature
    dataset = None if data is None else datasets.open(data, None if signature is None else signature.inputs)
    if scenario == "offline":
        return offline.side_by_side(
            opened,
            dataset=dataset,
            batches=sizes,
            sessions=sessions,
            threads=threads,
            seconds=seconds,
            precision=precision,
            seed=seed,
            progress=progress,
        )
    if demand is not None:
        return server.one_by_one(
            opened,
            demand,
            dataset=dataset,
            batch=sizes[0] if sizes else 1,
            sessions=sessions,
            threads=threads,
            seconds=seconds,
            seed=seed,
            progress=progress,
        )
    return _joined(
        [
            comparison.side_by_side(
                opened,
                dataset=dataset,
                with_quality=False,
                scenario=scenario,
                batch=size,
                seconds=seconds,
                precision=precision,
                seed=seed,
                threads=threads,
                progress=progress,
            )
            for size in sizes or [_STREAMS if scenario == "multi-stream" else 1]
        ]
    )


def _check(
    scenario: Scenario, sizes: Sequence[int], *, sessions: int | None, rate: float | None, max_p99: float | None
) -> None:
    """Refuse what the scenario would not heed."""
    if scenario == "server" and len(sizes) > 1:
        raise UsageError("the server scenario takes one batch size", hint="for example --batch 1")
    given = {"sessions": sessions, "rate": rate, "max-p99": max_p99}
    heeded = {"offline": ("sessions",), "server": tuple(given)}.get(scenario, ())
    for name, value in given.items():
        if value is not None and name not in heeded:
            fitting = "server or offline" if name == "sessions" else "server"
            raise UsageError(f"--{name} does nothing in the {scenario} scenario", hint=f"--scenario {fitting}")


def _joined(parts: Sequence[Comparison]) -> Comparison:
    """One record of the batch sizes that were measured after each other."""
    first = parts[0]
    notes = {note: None for part in parts for note in part.notes}
    return first.model_copy(
        update={
            "rows": [row for part in parts for row in part.rows],
            "rounds": sum(part.rounds for part in parts),
            "seconds": sum(part.seconds for part in parts),
            "notes": list(notes),
        }
    )
