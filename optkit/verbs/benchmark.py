"""``benchmark``: latency percentiles, throughput and peak memory, under four kinds of load."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.data.dataset import Dataset, open_dataset
from optkit.errors import UsageError
from optkit.measurement import comparison, offline, server
from optkit.measurement.candidate import Candidate
from optkit.measurement.server import Demand
from optkit.measurement.worker import opened
from optkit.options.calling import takes
from optkit.options.verbs.benchmark import BenchmarkCommand
from optkit.progress import Progress
from optkit.records.comparison import Comparison

_STREAMS = 8
"""Samples that arrive together in the multi-stream scenario, as in MLPerf's."""


@takes(BenchmarkCommand)
def benchmark(options: BenchmarkCommand, progress: Progress) -> Comparison:
    """Time one or several models (a path, a bundle or ``PATH@TARGET``), the others compared with the first.

    ``single-stream``: the latency of one inference after the other. ``multi-stream``: the same for ``batch`` samples
    together (8). ``offline``: the highest throughput, over batches and parallel sessions. ``server``: queries arriving
    at random, at a ``rate`` per second or at the highest that keeps ``max_p99`` seconds. Raises OptkitError.
    """
    _check(options)
    candidates = opened(options.models, options)
    signature = candidates[0].model.signature
    inputs = None if signature is None else signature.inputs
    dataset = None if options.data is None else open_dataset(options.data, inputs)
    if options.scenario == "offline":
        return offline.side_by_side(
            candidates,
            dataset=dataset,
            batches=options.batch,
            sessions=options.sessions,
            threads=options.threads,
            seconds=options.seconds,
            precision=options.precision,
            seed=options.seed,
            progress=progress,
        )
    if options.scenario == "server":
        return server.one_by_one(
            candidates,
            Demand(options.rate, options.max_p99),
            dataset=dataset,
            batch=options.batch[0] if options.batch else 1,
            sessions=options.sessions,
            threads=options.threads,
            seconds=options.seconds,
            seed=options.seed,
            progress=progress,
        )
    sizes = options.batch or [_STREAMS if options.scenario == "multi-stream" else 1]
    return _joined([_side_by_side(candidates, dataset, size, options, progress) for size in sizes])


def _side_by_side(
    candidates: Sequence[Candidate], dataset: Dataset | None, batch: int, options: BenchmarkCommand, progress: Progress
) -> Comparison:
    return comparison.side_by_side(
        candidates,
        dataset=dataset,
        with_quality=False,
        scenario=options.scenario,
        batch=batch,
        seconds=options.seconds,
        precision=options.precision,
        seed=options.seed,
        threads=options.threads,
        progress=progress,
    )


def _check(options: BenchmarkCommand) -> None:
    """Refuse options that the scenario does not heed."""
    scenario = options.scenario
    if scenario == "server" and len(options.batch) > 1:
        raise UsageError("the server scenario takes one batch size", hint="for example --batch 1")
    given = {"sessions": options.sessions, "rate": options.rate, "max-p99": options.max_p99}
    heeded = {"offline": ("sessions",), "server": tuple(given)}.get(scenario, ())
    for name, value in given.items():
        if value is not None and name not in heeded:
            fitting = "server or offline" if name == "sessions" else "server"
            raise UsageError(f"--{name} does nothing in the {scenario} scenario", hint=f"--scenario {fitting}")


def _joined(parts: Sequence[Comparison]) -> Comparison:
    """Join the records of batch sizes that were measured after each other."""
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
