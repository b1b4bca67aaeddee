"""Quality of candidates on the same samples, by labels or against the baseline's outputs.

Each candidate runs in a process of its own. Batches are streamed through all of them, and only a row of observations
per sample is kept, so memory does not grow with the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from optkit.data.dataset import Batch, Dataset
from optkit.errors import MetricError, OptkitError
from optkit.formats.tensors import Array, Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.metrics.metric import Metric, choose_metric, join_outputs, loss_interval, metric_interval, weigh_evidence
from optkit.progress import Progress, no_progress
from optkit.records.comparison import QualityRecord

_RECORDED_BYTES = 1 << 28
"""Approximate limit of the recorded outputs of a baseline."""


@dataclass(frozen=True)
class Assessment:
    """A candidate's quality, or the error that it failed with; neither if it was not assessed."""

    quality: QualityRecord | None = None
    error: OptkitError | None = None


class Recording:
    """A cache of the outputs of one baseline for one dataset, so that it need not run again for other candidates."""

    def __init__(self) -> None:
        self._outputs: dict[int, list[Arrays]] = {}
        self._bytes = 0

    def outputs(self, size: int, index: int, run: Callable[[], Arrays]) -> Arrays:
        """Return the recorded outputs of batch ``index`` of batches of ``size``; call ``run`` if they are unknown."""
        known = self._outputs.setdefault(size, [])
        if index < len(known):
            return known[index]
        outputs = run()
        if index == len(known) and self._bytes < _RECORDED_BYTES:
            known.append(outputs)
            self._bytes += sum(array.nbytes for array in outputs.values())
        return outputs


def assess(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    metric: str | None = None,
    *,
    batch: int = 1,
    seed: int = 0,
    recording: Recording | None = None,
    progress: Progress = no_progress,
) -> list[Assessment]:
    """Assess the candidates on all samples; the first is the baseline.

    A model with a fixed batch size runs with that size; the last batch is padded, and padding does not count. With a
    ``recording`` of this baseline on this dataset the baseline does not run again. Raises the baseline's error,
    DataError or SignatureError for data that does not fit it, MetricError.
    """
    baseline, *others = entries = [_Assessed(candidate) for candidate in candidates]
    with ExitStack() as stack:
        baseline.open(stack)
        measure = _metric(metric, dataset, baseline, others)
        dataset.check(baseline.worker.signature.inputs)
        for entry in others:
            entry.attempt(entry.open, stack)
        _stream(baseline, others, dataset, measure, batch, recording, progress)
    return [_assessment(entry, baseline, measure, seed) for entry in entries]


class _Assessed:
    """The state of one candidate during the assessment: its worker, its rows of observations so far, its error."""

    worker: Worker

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.error: OptkitError | None = None
        self.outputs: Arrays = {}
        self.rows: list[Array] = []

    def attempt(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run ``step`` and keep its error, if any, as the result of this candidate."""
        try:
            step(*arguments)
        except OptkitError as error:
            self.error = error

    def open(self, stack: ExitStack) -> None:
        self.worker = stack.enter_context(Worker(self.candidate))

    def run(self, batch: Batch, filled: int | None, metric: Metric, baseline: _Assessed) -> None:
        """Run one batch and keep its observations. The baseline must have run it before."""
        self.observe(self.worker.run(batch.feed), batch, filled, metric, baseline)

    def observe(self, outputs: Arrays, batch: Batch, filled: int | None, metric: Metric, baseline: _Assessed) -> None:
        self.outputs = outputs if self is baseline else rename_outputs(outputs, tuple(baseline.outputs))
        own, reference, feed = (_real(each, batch, filled) for each in (self.outputs, baseline.outputs, batch.feed))
        truth = reference if metric.needs == "reference" or batch.labels is None else batch.labels
        self.rows.append(metric.observations(own, truth, feed))


def rename_outputs(outputs: Arrays, names: tuple[str, ...]) -> Arrays:
    """Rename the outputs as the baseline's: by name if they have all of these names, else by position.

    Raises MetricError for another number of outputs.
    """
    if all(name in outputs for name in names):
        return {name: outputs[name] for name in names}
    if len(outputs) == len(names):
        return dict(zip(names, outputs.values(), strict=True))
    raise MetricError(f"outputs {', '.join(outputs)} are not those of the baseline: {', '.join(names)}")


def _metric(text: str | None, dataset: Dataset, baseline: _Assessed, others: Sequence[_Assessed]) -> Metric:
    chosen = choose_metric(text, dataset, baseline.worker.signature)
    if chosen.needs == "reference" and not others:
        raise MetricError(
            f"metric {str(chosen)!r} compares with another model's outputs, and there is none",
            hint="give --reference MODEL, or data with labels",
        )
    return chosen


def _stream(
    baseline: _Assessed,
    others: Sequence[_Assessed],
    dataset: Dataset,
    metric: Metric,
    batch: int,
    recording: Recording | None,
    progress: Progress,
) -> None:
    """Run each batch through the baseline, then through the other candidates that have not failed."""
    sizes = [entry.worker.signature.fixed_batch for entry in (baseline, *others) if entry.error is None]
    fixed = next((size for size in sizes if size is not None), None)
    size = fixed or batch
    filled = None if dataset.source.whole_feeds else fixed
    done = 0
    for index, found in enumerate(dataset.batches(size, pad=fixed is not None)):
        run = partial(baseline.worker.run, found.feed)
        outputs = recording.outputs(size, index, run) if recording else run()
        baseline.observe(outputs, found, filled, metric, baseline)
        for entry in others:
            if entry.error is None:
                entry.attempt(entry.run, found, filled, metric, baseline)
        done += 1 if dataset.source.whole_feeds else found.count
        progress("evaluating", done, len(dataset))


def _real(arrays: Arrays, batch: Batch, filled: int | None) -> Arrays:
    """Cut off the padding of a batch that was padded to ``filled`` samples; ``None`` if batches are not padded."""
    if filled is None or batch.count == filled:
        return arrays
    return {name: array[: batch.count] if array.shape[:1] == (filled,) else array for name, array in arrays.items()}


def _assessment(entry: _Assessed, baseline: _Assessed, metric: Metric, seed: int) -> Assessment:
    if entry.error is not None:
        return Assessment(error=entry.error)
    own = join_outputs(entry.rows)
    found = QualityRecord(
        metric=str(metric),
        value=metric_interval(own, metric, seed=seed),
        count=len(own),
        higher_is_better=metric.higher_is_better,
        needs_labels=metric.needs == "labels",
    )
    return Assessment(found if entry is baseline else found.model_copy(update=_loss(own, baseline, metric, seed)))


def _loss(own: Array, baseline: _Assessed, metric: Metric, seed: int) -> dict[str, Any]:
    """Compute the loss against the baseline with its statistical evidence, as fields of QualityRecord."""
    reference = None if metric.needs == "reference" else join_outputs(baseline.rows)
    loss = loss_interval(own, reference, metric, seed=seed)
    behind = weigh_evidence(own, reference, metric, loss)
    return {"loss": loss, "test": behind.test, "p_value": behind.p_value, "detectable": behind.detectable}
