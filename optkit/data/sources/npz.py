"""Data from one ``.npz``: an array per input, its first axis the samples, or an extra first axis of whole feeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.data import npz_rows
from optkit.data.dataset import LABELS, Batch, Source, check_names, samples_in
from optkit.data.description import DataSpec
from optkit.data.npz_rows import RowReader
from optkit.errors import DataError, SignatureError
from optkit.formats.tensors import Array, TensorSpec


class Npz(Source):
    """Samples of one ``.npz``; rows are read from disk on demand."""

    def __init__(self, spec: DataSpec, inputs: Sequence[TensorSpec] | None) -> None:
        self.path = Path(spec.path)
        self._inputs = inputs
        self._arrays = npz_rows.open_npz(self.path)
        named_so = any(given.name == LABELS for given in inputs or ())
        self._labels = None if named_so else self._arrays.pop(LABELS, None)
        self.labelled = self._labels is not None
        check_names(self._arrays, inputs, str(self.path))
        self._whole = {given.name for given in inputs or () if self._holds_feeds(given)}
        self.whole_feeds = bool(self._whole)
        self._count = self._common_length()

    def __len__(self) -> int:
        return self._count

    def sample(self, index: int) -> Batch:
        feed = {
            name: array.rows(index)[0] if name in self._whole else array.rows(index)
            for name, array in self._arrays.items()
        }
        return Batch(feed, self.label(index), samples_in(feed, self._inputs) if self.whole_feeds else 1)

    def label(self, index: int) -> Array | None:
        if self._labels is None:
            return None
        row = self._labels.rows(index)
        return row[0] if self.whole_feeds and row.ndim > 1 else row

    def _holds_feeds(self, given: TensorSpec) -> bool:
        """Return True if the array has one axis more than the input. Raises SignatureError for any other rank."""
        array = self._arrays[given.name]
        if given.shape is None or array.ndim == len(given.shape):
            return False
        if array.ndim == len(given.shape) + 1:
            return True
        raise SignatureError(
            f"{self.path}: array {given.name!r} has rank {array.ndim} (shape {list(array.shape)}), not "
            f"{len(given.shape)} (samples) or {len(given.shape) + 1} (whole feeds)",
            hint=f"the model takes {given}",
        )

    def _common_length(self) -> int:
        named: dict[str, RowReader] = dict(self._arrays)
        if not named:
            raise DataError(f"{self.path}: holds no arrays of inputs", hint="np.savez(path, INPUT=array) writes one")
        first, count = next((name, array.shape[0]) for name, array in named.items())
        if self._labels is not None:
            named[LABELS] = self._labels
        for name, array in named.items():
            if array.shape[0] != count:
                what = "labels" if array is self._labels else f"samples in {name!r}"
                raise DataError(f"{self.path}: {array.shape[0]} {what} for {count} samples in {first!r}")
        return count
