"""Datasets: named arrays with a sample axis and optional labels, read as a stream in constant memory."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np

from optkit import lazy
from optkit.data.description import DataSpec, read_description
from optkit.errors import DataError, SignatureError
from optkit.formats.tensors import Array, Arrays, Signature, TensorSpec, check_feed

SOURCES = {
    "npz": "optkit.data.sources.npz:Npz",
    "feeds": "optkit.data.sources.feeds:Feeds",
    "images": "optkit.data.sources.images:ImageFolder",
    "text": "optkit.data.sources.text:TextFile",
    "callable": "optkit.data.sources.callable:UserCode",
}
"""Each is made from a ``DataSpec`` and the model's inputs, where known; a file's suffix may name the kind."""

_BY_FORM = ("feeds", "images", "text", "callable")
"""The kinds that are told by something else than the suffix."""
LABELS = "labels"
"""Name of the array of labels in an ``.npz``."""
_CALLABLE = re.compile(r"^.+\.py:\w+$")
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Batch:
    """One or more samples as a single feed."""

    feed: Arrays
    """Arrays by input name, the sample axis first."""
    labels: Array | None
    """Labels of the samples; ``None`` if the data has none."""
    count: int
    """Number of samples, without padding."""


class Source(ABC):
    """A source of samples with random access. Members: npz, feeds, images, text, callable."""

    path: Path
    labelled: bool
    """True if every sample has labels."""
    whole_feeds: bool = False
    """True if each sample is a whole feed that is never joined with others (shapes may differ)."""
    variant: str = ""
    """The preprocessing as text; part of the dataset's digest, beside the content of the samples."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int) -> Batch:
        """Read sample ``index``, its sample axis kept (size 1), or a whole feed. Raises DataError."""

    def label(self, index: int) -> Array | None:
        """Read the labels of sample ``index``. Sources override it if that is cheaper than reading the sample."""
        return self.sample(index).labels

    def where(self, index: int) -> str:
        """Return the name of sample ``index`` for messages."""
        return f"{self.path}, sample {index}"

    def content(self, index: int) -> bytes:
        """Hash the content of sample ``index``, computed by each call.

        Labels are left out: a sample with another label still leaks from one part into another.
        """
        return digest_of(self.sample(index).feed)

    def identity(self, index: int) -> bytes:
        """Hash the sample's content once and keep the digest; equal samples have equal digests."""
        if index not in self._identities:
            self._identities[index] = self.content(index)
        return self._identities[index]

    @cached_property
    def _identities(self) -> dict[int, bytes]:
        return {}


@dataclass(frozen=True)
class Dataset:
    """A selection of samples of a source."""

    source: Source
    indices: Sequence[int]
    part: str = "all"
    """``all``, ``training``, ``held-out``, ``calibration``, ``selection`` or ``evaluation``."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labelled(self) -> bool:
        return self.source.labelled

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the preprocessing and the selected samples' content and labels, in order."""
        digest = hashlib.sha256(self.source.variant.encode())
        for index in self.indices:
            digest.update(self.source.identity(index))
            labels = self.source.label(index) if self.labelled else None
            if labels is not None:
                digest.update(digest_of({"labels": labels}))
        return digest.hexdigest()

    def batches(self, size: int = 1, *, pad: bool = False) -> Iterator[Batch]:
        """Iterate over the samples in order, ``size`` at a time; whole feeds one by one. The last batch may be smaller.

        ``pad`` fills the last feed up to ``size`` by repeating its last sample, for models of a fixed batch size;
        its ``count`` and ``labels`` are those of the real samples.
        """
        if self.source.whole_feeds:
            yield from map(self.source.sample, self.indices)
            return
        for start in range(0, len(self), size):
            chosen = self.indices[start : start + size]
            missing = size - len(chosen) if pad else 0
            yield _joined([self.source.sample(index) for index in chosen], missing)

    def take(self, count: int) -> Dataset:
        """Select at most ``count`` samples, evenly spaced, since data is often sorted by class."""
        kept = min(count, len(self))
        return replace(self, indices=[self.indices[number * len(self) // kept] for number in range(kept)])

    def check(self, inputs: Sequence[TensorSpec], *, samples: int | None = None) -> None:
        """Check names, dtypes, shapes and that floats are finite against a model's inputs.

        Raises SignatureError or DataError naming the file and the sample.
        """
        size = Signature(tuple(inputs)).fixed_batch or 1
        chosen = self if samples is None else self.take(samples)
        for number, batch in enumerate(chosen.batches(size, pad=True)):
            step = 1 if self.source.whole_feeds else size
            names = [self.source.where(index) for index in chosen.indices[number * step : (number + 1) * step]]
            check_feed(batch.feed, inputs, where=names[0])
            _check_finite(batch, names)
            _check_labels(batch, names)


def open_dataset(path: str | Path | DataSpec, inputs: Sequence[TensorSpec] | None = None) -> Dataset:
    """Open the data at ``path``: an ``.npz``, a folder of them, a ``.yaml`` that describes an image folder or a text
    file, or ``FILE.py:CALLABLE``.

    ``inputs`` are the model's; they tell a sample axis from a whole feed. Raises DataError, and SignatureError for
    arrays that are not the model's inputs.
    """
    spec = path if isinstance(path, DataSpec) else DataSpec(path=str(path))
    file = Path(spec.path)
    if file.suffix in (".yaml", ".yml") and file.is_file():
        spec = read_description(file)
    source: Source = lazy.resolve(SOURCES, _kind(spec), kind="kind of data")(spec, inputs)
    if not len(source):
        raise DataError(f"{source.path}: holds no samples")
    return Dataset(source, range(len(source)))


def digest_of(feed: Arrays) -> bytes:
    """Hash named arrays with SHA-256: names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        digest.update(f"{name}:{array.dtype.str}{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.digest()


def check_names(names: Iterable[str], inputs: Sequence[TensorSpec] | None, where: str) -> None:
    """Raise a SignatureError unless ``names`` are those of the model's inputs, if these are known."""
    if inputs is None:
        return
    given, wanted = list(names), [spec.name for spec in inputs]
    spare = [name for name in given if name not in wanted]
    lacking = [name for name in wanted if name not in given]
    if lacking:
        raise SignatureError(
            f"{where}: input {lacking[0]!r} of the model is missing; found {', '.join(given) or 'nothing'}",
            hint=f"rename {spare[0]!r} to {lacking[0]!r}"
            if spare
            else "the model takes " + ", ".join(map(str, inputs)),
        )
    if spare:
        raise SignatureError(f"{where}: the model has no input {spare[0]!r}", hint=lazy.did_you_mean(spare[0], wanted))


def samples_in(feed: Arrays, inputs: Sequence[TensorSpec] | None) -> int:
    """Count the samples in a whole feed: the size of the first axis if all inputs share it, else one."""
    signature = Signature(tuple(inputs or ()))
    shared = inputs is None or signature.batch_dim is not None or signature.fixed_batch is not None
    firsts = {array.shape[0] if array.ndim else 1 for array in feed.values()}
    return int(firsts.pop()) if shared and len(firsts) == 1 else 1


def _kind(spec: DataSpec) -> str:
    path = Path(spec.path)
    if _CALLABLE.match(spec.path) and not path.exists():
        return "callable"
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint=_near(path))
    if spec.images is not None or spec.text is not None:
        return "images" if spec.images is not None else "text"
    if path.is_dir():
        return _kind_of_folder(path)
    kind = path.suffix.removeprefix(".")
    if kind in SOURCES and kind not in _BY_FORM:
        return kind
    raise DataError(f"{path}: {path.suffix or 'this'} is no known form of data", hint=_HINTS.get(path.suffix, _FORMS))


def _kind_of_folder(folder: Path) -> str:
    files = (file for pattern in ("*", "*/*") for file in folder.glob(pattern))
    suffixes = {file.suffix.lower() for file in files}
    if any(folder.glob("*.npz")):
        return "feeds"
    if suffixes & set(PICTURES):
        raise DataError(
            f"{folder}: images need a description of their preprocessing",
            hint=f"write images.yaml beside it and give that: path: {folder.name}, images: {{size: 224}}",
        )
    raise DataError(f"{folder}: holds neither .npz files nor images", hint=_FORMS)


_FORMS = "data is an .npz, a folder of .npz feeds, a .yaml describing images or text, or FILE.py:CALLABLE"
_DESCRIBE_TEXT = "write text.yaml: path: FILE, text: {tokenizer: tokenizer.json, text: COLUMN}; and give that"
_HINTS = {
    ".npy": "name the arrays: np.savez('data.npz', INPUT=array)",
    ".py": "name the function that yields feeds: FILE.py:CALLABLE",
    ".jsonl": _DESCRIBE_TEXT,
    ".csv": _DESCRIBE_TEXT,
}


def _near(path: Path) -> str:
    """Suggest the path that a mistyped one may stand for."""
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    near = get_close_matches(path.name, [file.name for file in path.parent.iterdir()], n=1)
    return f"did you mean '{path.with_name(near[0])}'?" if near else _FORMS


def _joined(samples: Sequence[Batch], missing: int) -> Batch:
    feeds = [sample.feed for sample in samples] + [samples[-1].feed] * missing
    feed = feeds[0] if len(feeds) == 1 else {name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]}
    labels = [sample.labels for sample in samples if sample.labels is not None]
    return Batch(feed, np.concatenate(labels) if labels else None, sum(sample.count for sample in samples))


def _check_finite(batch: Batch, names: Sequence[str]) -> None:
    for name, array in batch.feed.items():
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        rows = np.isfinite(array).all(axis=tuple(range(1, array.ndim))) if array.ndim else np.isfinite(array)[None]
        row = int(np.argmin(rows)) if len(names) > 1 else 0
        kind = "NaN" if np.isnan(array).any() else "infinity"
        raise DataError(f"{names[row]}: input {name!r} holds {kind}", hint="clean the data, or leave the sample out")


def _check_labels(batch: Batch, names: Sequence[str]) -> None:
    if batch.labels is None:
        return
    if len(batch.labels) != batch.count:
        raise DataError(f"{names[0]}: {len(batch.labels)} labels for {batch.count} samples")
    if batch.labels.dtype.kind == "f" and not np.isfinite(batch.labels).all():
        raise DataError(f"{names[0]}: a label is NaN or infinite")
