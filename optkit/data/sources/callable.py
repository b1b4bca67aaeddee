"""Data from ``FILE.py:CALLABLE``: user code that yields feeds, or pairs of a feed and its label.

The code runs once, when the data is opened; its feeds are kept on disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optkit.data.dataset import Batch, Source, check_names, samples_in
from optkit.data.description import DataSpec
from optkit.data.spool import Spool
from optkit.errors import DataError
from optkit.formats.tensors import Array, Arrays, TensorSpec
from optkit.system import user_code

_EXAMPLE = "yield {'x': array}, or ({'x': array}, label)"


class UserCode(Source):
    """Feeds of user code. A feed whose arrays all lack the sample axis is one sample; samples of equal shapes are
    joined to batches.
    """

    labelled = False

    def __init__(self, spec: DataSpec, inputs: Sequence[TensorSpec] | None) -> None:
        self.path = Path(spec.path)
        self._inputs = inputs
        self._ranks = {given.name: len(given.shape) for given in inputs or () if given.shape is not None}
        self._spool = Spool()
        self._names: list[str] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        with user_code.running(spec.path, DataError) as make:
            for item in self._items(make()):
                self._keep(item)

    def __len__(self) -> int:
        return len(self._spool)

    def where(self, index: int) -> str:
        return f"{self.path}, feed {index}"

    def sample(self, index: int) -> Batch:
        record = io.BytesIO(self._spool.read(index))
        feed = {name: np.lib.format.read_array(record, allow_pickle=False) for name in self._names}
        labels = np.lib.format.read_array(record, allow_pickle=False) if self.labelled else None
        return Batch(feed, labels, samples_in(feed, self._inputs) if self.whole_feeds else 1)

    def _items(self, made: Any) -> Iterable[Any]:
        if not isinstance(made, Iterable) or isinstance(made, Mapping | str):
            raise DataError(f"{self.path}: returns {type(made).__name__}, which yields no feeds", hint=_EXAMPLE)
        return made

    def _keep(self, item: Any) -> None:
        where = self.where(len(self))
        given, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(given, Mapping):
            raise DataError(f"{where}: is {type(given).__name__}, not a feed by input names", hint=_EXAMPLE)
        arrays = {str(name): _array(value, f"{where}, input {name!r}") for name, value in given.items()}
        feed, alone = self._with_sample_axis(arrays)
        self._fits(feed, alone, label is not None, where)
        record = io.BytesIO()
        for name in self._names:
            np.lib.format.write_array(record, feed[name], allow_pickle=False)
        if label is not None:
            count = 1 if alone else samples_in(feed, self._inputs)
            np.lib.format.write_array(record, _labels(label, count, alone=alone, where=where), allow_pickle=False)
        self._spool.append(record.getvalue())

    def _with_sample_axis(self, feed: Arrays) -> tuple[Arrays, bool]:
        """Add a sample axis to a feed that is one sample without it; True in the second place if so."""
        alone = bool(feed) and all(array.ndim + 1 == self._ranks.get(name) for name, array in feed.items())
        return {name: array[None] for name, array in feed.items()} if alone else feed, alone

    def _fits(self, feed: Arrays, alone: bool, labelled: bool, where: str) -> None:
        """Check that a feed has the names and labels of the first one, and compare their shapes. Raises DataError."""
        if not len(self):
            check_names(feed, self._inputs, where)
            self._names, self.labelled = list(feed), labelled
            self._shapes = {name: array.shape for name, array in feed.items()}
        if set(feed) != set(self._names):
            raise DataError(f"{where}: has {', '.join(feed)}, and feed 0 has {', '.join(self._names)}")
        if labelled != self.labelled:
            has, first = ("a label", "none") if labelled else ("no label", "one")
            raise DataError(f"{where}: has {has}, and feed 0 has {first}")
        same = all(array.shape == self._shapes[name] for name, array in feed.items())
        self.whole_feeds = self.whole_feeds or not (alone and same)


def _array(value: Any, where: str) -> Array:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise DataError(f"{where}: {type(value).__name__} cannot be converted to an array of numbers", hint=_EXAMPLE)
    return array


def _labels(label: Any, count: int, *, alone: bool, where: str) -> Array:
    labels = _array(label, f"{where}, label")
    if alone or labels.ndim == 0:
        labels = labels[None]
    if len(labels) != count:
        raise DataError(f"{where}: {len(labels)} labels for {count} samples")
    return labels
