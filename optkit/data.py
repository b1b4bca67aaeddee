"""Datasets: named arrays with a sample axis, optionally labels; read as a stream, so memory does not grow with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optkit.tensors import Array, Arrays, TensorSpec


@dataclass(frozen=True)
class Batch:
    """Some samples: one feed (sample axis first), their labels (``None`` without) and how many samples they are."""

    feed: Arrays
    labels: Array | None
    count: int


class Source(ABC):
    """Where samples come from: random access to one sample at a time. Members: npz, feeds, images, text, callable."""

    path: Path
    labelled: bool
    whole_feeds: bool
    """Whether a sample is a whole feed that must not be joined with others (shapes may differ)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int) -> Batch:
        """Sample ``index`` with its sample axis kept (size 1), or a whole feed. Raises DataError."""

    @abstractmethod
    def identity(self, index: int) -> bytes:
        """A digest of the sample's content: equal samples have equal digests."""


@dataclass(frozen=True)
class Dataset:
    """A selection of samples of a source. ``part`` says which: ``all``, ``calibration`` or ``evaluation``."""

    source: Source
    indices: Sequence[int]
    part: str = "all"

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labelled(self) -> bool:
        return self.source.labelled

    @property
    def digest(self) -> str:
        """SHA-256 over the selected samples' identities, in order."""
        raise NotImplementedError

    def batches(self, size: int = 1) -> Iterator[Batch]:
        """The samples in order, ``size`` at a time (whole feeds stay alone; the last batch may be smaller)."""
        raise NotImplementedError

    def take(self, count: int) -> Dataset:
        """The first ``count`` samples."""
        raise NotImplementedError

    def check(self, inputs: Sequence[TensorSpec], *, samples: int | None = None) -> None:
        """Check names, dtypes, shapes and that floats are finite against a model's inputs.

        Raises SignatureError or DataError naming the file and the sample.
        """
        raise NotImplementedError


def open(path: str | Path, inputs: Sequence[TensorSpec] | None = None) -> Dataset:
    """All samples at ``path``: ``.npz``, a folder of them, an image folder or a text file described by a ``.yaml``, or
    ``FILE.py:CALLABLE``. ``inputs`` are the model's, needed to tell a sample axis from a whole feed. Raises DataError.
    """
    raise NotImplementedError


def split(dataset: Dataset, *, calibration_samples: int = 300, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Calibration and evaluation parts that share no sample, chosen by content and seed, not by order.

    Equal samples fall into the same part. Raises DataError when there are too few samples.
    """
    raise NotImplementedError


def check_disjoint(calibration: Dataset, evaluation: Dataset) -> None:
    """Raise a DataError when two given sets share a sample."""
    raise NotImplementedError
