"""Training samples as tensors, cached in memory if they fit, in batches shuffled by seed and epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optkit.data.dataset import Batch, Dataset
from optkit.formats.tensors import TensorSpec
from optkit.formats.torch.outputs import input_tensors
from optkit.progress import Progress, no_progress
from optkit.system import fingerprint

_MEMORY_SHARE = 4
"""Divisor of the allowed memory that samples may take: 4 is a quarter."""
_READ = 256
"""Samples read at a time."""


@dataclass(frozen=True)
class Drawn:
    """A batch of samples as tensors."""

    inputs: tuple[Any, ...]
    """A tensor for each input of the model, in order."""
    labels: Any | None
    """The labels; ``None`` if the data has none or they are no numbers."""
    rows: tuple[int, ...]
    """Indices of the samples in their source."""


class Samples:
    """The samples of ``dataset`` for a model with these inputs, on a device of torch."""

    def __init__(
        self, dataset: Dataset, inputs: Sequence[TensorSpec], device: str, progress: Progress = no_progress
    ) -> None:
        self.dataset = dataset
        self.inputs = tuple(inputs)
        self.device = device
        self.whole_feeds = dataset.source.whole_feeds
        self._kept = self._read(progress) if not self.whole_feeds else None

    def __len__(self) -> int:
        return len(self.dataset)

    def steps(self, size: int) -> int:
        """Count the batches of an epoch."""
        return len(self) if self.whole_feeds else max(1, len(self) // size)

    def epoch(self, size: int, *, seed: int, epoch: int, start: int = 0) -> Iterator[Drawn]:
        """Iterate over all samples in random order, from batch ``start`` on; an incomplete last batch is left out."""
        order = _order(len(self), seed, epoch)
        size = 1 if self.whole_feeds else min(size, len(self))
        for number in range(start, self.steps(size)):
            yield self.draw(order[number * size : (number + 1) * size])

    def in_order(self, size: int) -> Iterator[Drawn]:
        """Iterate over all samples in their own order; the last batch may be smaller."""
        size = 1 if self.whole_feeds else size
        for first in range(0, len(self), size):
            yield self.draw(range(first, min(first + size, len(self))))

    def draw(self, rows: Sequence[int]) -> Drawn:
        """Return these samples as one batch, on the device."""
        if self._kept is not None:
            *inputs, labels = (each if each is None else each[list(rows)] for each in self._kept)
        else:
            chosen = replace(self.dataset, indices=[self.dataset.indices[row] for row in rows])
            batch = next(chosen.batches(len(rows)))
            inputs, labels = self._tensors(batch)
        moved = [None if each is None else each.to(self.device) for each in (*inputs, labels)]
        return Drawn(tuple(moved[:-1]), moved[-1], tuple(self.dataset.indices[row] for row in rows))

    def _tensors(self, batch: Batch) -> tuple[list[Any], Any | None]:
        import torch

        known = batch.labels is not None and batch.labels.dtype.kind in "iubf"
        labels = torch.from_numpy(batch.labels.copy()) if batch.labels is not None and known else None
        return list(input_tensors(batch.feed, self.inputs)), labels

    def _read(self, progress: Progress) -> list[Any] | None:
        """Read all samples, the labels last; ``None`` if they would take too much memory."""
        import torch

        parts: list[list[Any]] = []
        for number, batch in enumerate(self.dataset.batches(_READ)):
            progress("reading training data", min(number * _READ, len(self)), len(self))
            inputs, labels = self._tensors(batch)
            parts.append([*inputs, labels])
            size = sum(each.nbytes for each in parts[0] if each is not None) * len(self) / _READ
            if size > fingerprint.memory_allowed() / _MEMORY_SHARE:
                return None
        return [None if each[0] is None else torch.cat(each) for each in zip(*parts, strict=True)]


def _order(count: int, seed: int, epoch: int) -> list[int]:
    import torch

    drawn = int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:7], "big")
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(drawn)).tolist()
    return order
