"""Data from a folder of ``.npz`` files, one whole feed each; shapes may differ from file to file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.data import npz_rows
from optkit.data.dataset import LABELS, Batch, Source, check_names, samples_in
from optkit.data.description import DataSpec
from optkit.errors import DataError
from optkit.formats.tensors import Array, TensorSpec


class Feeds(Source):
    """Feeds in the order of their file names."""

    whole_feeds = True

    def __init__(self, spec: DataSpec, inputs: Sequence[TensorSpec] | None) -> None:
        self.path = Path(spec.path)
        self._inputs = inputs
        self._files = sorted(self.path.glob("*.npz"))
        self._label_is_input = any(given.name == LABELS for given in inputs or ())
        self.labelled = not self._label_is_input and LABELS in npz_rows.read_npz(self._files[0])

    def __len__(self) -> int:
        return len(self._files)

    def where(self, index: int) -> str:
        return str(self._files[index])

    def sample(self, index: int) -> Batch:
        feed = npz_rows.read_npz(self._files[index])
        labels = None if self._label_is_input else feed.pop(LABELS, None)
        if (labels is not None) != self.labelled:
            has, first = ("labels", "none") if labels is not None else ("no labels", "some")
            raise DataError(f"{self._files[index]}: has {has}, and {self._files[0].name} has {first}")
        check_names(feed, self._inputs, self.where(index))
        count = samples_in(feed, self._inputs)
        return Batch(feed, self._fitting(labels, count, index), count)

    def _fitting(self, labels: Array | None, count: int, index: int) -> Array | None:
        """Shape the labels as one per sample of the feed. Raises DataError for another number of them."""
        if labels is None:
            return None
        fitting = labels.reshape(1) if labels.ndim == 0 else labels
        if len(fitting) != count:
            raise DataError(f"{self._files[index]}: {len(fitting)} labels for {count} samples")
        return fitting
