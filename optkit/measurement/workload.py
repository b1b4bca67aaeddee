"""Workloads for timing: samples of the data in batches, or synthetic inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from optkit.data.dataset import Dataset
from optkit.errors import DataError, SignatureError
from optkit.formats.tensors import Arrays, Signature, synthetic_feed
from optkit.measurement.candidate import Candidate
from optkit.notes import Note

_FEEDS = 8
"""Number of different feeds: enough to cover several sizes, few enough to run all of them in every round."""


@dataclass(frozen=True)
class Workload:
    """The feeds that models are timed on."""

    batch: int
    """Samples in each feed."""
    feeds: list[Arrays]
    notes: list[Note]
    """Notes on deviations from the data or the batch size asked for."""


def make_workload(
    candidates: Sequence[Candidate], dataset: Dataset | None, batch: int, seed: int, *, feeds: int = _FEEDS
) -> Workload:
    """Make the workload for all candidates, of at most ``feeds`` feeds.

    Without a dataset, inputs are synthetic. A fixed batch size of a model replaces ``batch``. Raises SignatureError for
    a model without known inputs, DataError if there are too few samples for a batch.
    """
    signature = _signature(candidates[0])
    if dataset is not None and dataset.source.whole_feeds:
        return _whole_feeds(dataset, batch)
    size, notes = _batch(candidates, batch)
    if dataset is not None:
        return Workload(size, _real_feeds(dataset, size, min(feeds, _FEEDS)), notes)
    text = "timed on made-up inputs, and no quality is compared; give --data for both"
    feed = synthetic_feed(signature.inputs, batch=size, seed=seed)
    return Workload(size, [feed], [*notes, Note(text, level="warning", kind="made-up-inputs")])


def _signature(candidate: Candidate) -> Signature:
    if candidate.model.signature is None:
        raise SignatureError(
            f"{candidate.model.path} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
        )
    return candidate.model.signature


def _batch(candidates: Sequence[Candidate], asked: int) -> tuple[int, list[Note]]:
    """Return the batch size to run: the fixed one of the first model that has one, else the one asked for."""
    for candidate in candidates:
        fixed = None if candidate.model.signature is None else candidate.model.signature.fixed_batch
        if fixed not in (None, asked):
            return fixed, [Note(f"batch {fixed} instead of {asked}: the model takes no other", candidate.name)]
    return asked, []


def _whole_feeds(dataset: Dataset, asked: int) -> Workload:
    """Take feeds as the data has them; if they differ in size, each counts as one sample."""
    found = list(islice(dataset.batches(1), _FEEDS))
    counts = {each.count for each in found}
    batch = counts.pop() if len(counts) == 1 else 1
    notes = []
    if asked not in (1, batch):
        notes.append(Note(f"--batch {asked} does nothing: {dataset.source.path} holds whole feeds, run as they are"))
    return Workload(batch, [each.feed for each in found], notes)


def _real_feeds(dataset: Dataset, batch: int, count: int) -> list[Arrays]:
    full = (found for found in dataset.batches(batch) if found.count == batch)
    feeds = [found.feed for found in islice(full, count)]
    if not feeds:
        raise DataError(
            f"{dataset.source.path}: {len(dataset)} samples do not fill a batch of {batch}",
            hint="give more samples or a smaller --batch",
        )
    return feeds
