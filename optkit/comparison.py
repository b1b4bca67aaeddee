"""Models side by side: size, quality, speed and memory in one record, every ratio with its interval."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from optkit import machine, quality, records, timing
from optkit.data import Dataset
from optkit.errors import DataError, SignatureError, UsageError
from optkit.quality import Assessment
from optkit.results import Comparison, Row
from optkit.stage import Note, Progress, no_progress
from optkit.tensors import Arrays, Signature, synthetic_feed
from optkit.timing import Timing
from optkit.worker import Candidate

_FEEDS = 8
"""How many different feeds are timed: enough to see several sizes, few enough to go through in every round."""


def side_by_side(
    candidates: Sequence[Candidate],
    *,
    dataset: Dataset | None,
    metric: str | None = None,
    max_drop: float | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    seed: int = 0,
    threads: int | None = None,
    with_quality: bool = True,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare the candidates with the first of them.

    Without a dataset, or ``with_quality=False``, only speed, size and memory are compared; without one on made-up
    inputs. A candidate that fails is a row with a reason. Raises the baseline's error, DataError or SignatureError for
    data that does not fit, MetricError.
    """
    started = time.monotonic()
    if dataset is None and (metric is not None or max_drop is not None):
        raise UsageError("quality needs data: --metric and --max-drop do nothing without it", hint="give --data DATA")
    candidates = named_apart(candidates)
    plan = _plan(candidates, dataset, batch, seed)
    assessed = dataset if with_quality else None
    assessments = _assess(candidates, assessed, metric, plan.batch, seed, progress)
    alive = [entry for entry, found in zip(candidates, assessments, strict=True) if found.error is None]
    timings = timing.measure(alive, plan.feeds, seconds=seconds, seed=seed, progress=progress)
    by_name = {(found.candidate.name, found.candidate.target): found for found in timings}
    rows = [
        row(entry, found, by_name.get((entry.name, entry.target)), plan.batch)
        for entry, found in zip(candidates, assessments, strict=True)
    ]
    return Comparison(
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else records.of_dataset(dataset),
        threads=threads,
        batch=plan.batch,
        rounds=timings[0].rounds,
        max_drop=max_drop,
        machine=machine.fingerprint(),
        seconds=time.monotonic() - started,
        notes=records.of_notes(plan.notes),
    )


def named_apart(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates under names that differ: equal file names show their paths, the same file again its number."""
    names = [entry.name for entry in candidates]
    paths = {name: {entry.model.path for entry in candidates if entry.name == name} for name in names}
    apart: list[Candidate] = []
    for entry in candidates:
        name = entry.name if len(paths[entry.name]) == 1 else str(entry.model.path)
        again = sum(other.model.path == entry.model.path and other.target == entry.target for other in apart)
        apart.append(replace(entry, name=f"{name} ({again + 1})" if again else name))
    return apart


@dataclass(frozen=True)
class _Plan:
    """What the candidates are timed on."""

    batch: int
    feeds: list[Arrays]
    notes: list[Note]


def _plan(candidates: Sequence[Candidate], dataset: Dataset | None, batch: int, seed: int) -> _Plan:
    signature = _signature(candidates[0])
    size, notes = _batch(candidates, batch)
    if dataset is not None:
        return _Plan(size, _real_feeds(dataset, size), notes)
    text = "timed on made-up inputs, and no quality is compared; give --data for both"
    feed = synthetic_feed(signature.inputs, batch=size, seed=seed)
    return _Plan(size, [feed], [*notes, Note(text, level="warning")])


def _signature(candidate: Candidate) -> Signature:
    if candidate.model.signature is None:
        raise SignatureError(
            f"{candidate.model.path} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
        )
    return candidate.model.signature


def _batch(candidates: Sequence[Candidate], asked: int) -> tuple[int, list[Note]]:
    """The batch to run: the one asked for, or the first that a model has fixed."""
    for candidate in candidates:
        fixed = None if candidate.model.signature is None else candidate.model.signature.fixed_batch
        if fixed not in (None, asked):
            return fixed, [Note(f"batch {fixed} instead of {asked}: the model takes no other", candidate.name)]
    return asked, []


def _real_feeds(dataset: Dataset, batch: int) -> list[Arrays]:
    full = (found for found in dataset.batches(batch) if found.count == batch or dataset.source.whole_feeds)
    feeds = [found.feed for found in islice(full, _FEEDS)]
    if not feeds:
        raise DataError(
            f"{dataset.source.path}: {len(dataset)} samples do not fill a batch of {batch}",
            hint="give more samples or a smaller --batch",
        )
    return feeds


def _assess(
    candidates: Sequence[Candidate],
    dataset: Dataset | None,
    metric: str | None,
    batch: int,
    seed: int,
    progress: Progress,
) -> list[Assessment]:
    if dataset is None:
        return [Assessment()] * len(candidates)
    return quality.assess(candidates, dataset, metric, batch=batch, seed=seed, progress=progress)


def row(candidate: Candidate, assessment: Assessment, timed: Timing | None = None, batch: int | None = None) -> Row:
    """What is known of a candidate as a row."""
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
    return known if timed is None or timed.latency is None else known.model_copy(update=_measured(timed, batch))


def _measured(timed: Timing, batch: int | None) -> dict[str, object]:
    return {
        "latency": timed.latency,
        "throughput": batch / timed.latency.mean if timed.latency and batch else None,
        "speedup": timed.speedup,
        "speed_verdict": timed.verdict,
        "memory_bytes": timed.memory_bytes,
        "facts": timed.facts,
    }
