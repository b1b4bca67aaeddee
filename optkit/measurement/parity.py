"""Parity of two models: equal outputs within a tolerance, at several sizes of their dynamic dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optkit.data.dataset import Dataset
from optkit.errors import ParityError, StageError, TargetError
from optkit.formats.model import Model
from optkit.formats.tensors import Array, Arrays, Signature, synthetic_feed
from optkit.measurement.candidate import resolve_candidate
from optkit.measurement.worker import Worker
from optkit.metrics.fidelity import unmasked

BATCHES = (1, 5)
"""Batch sizes to compare at: one, as most models are deployed, and another that reveals a batch frozen in the graph."""
_ROUNDING = 8
"""Machine epsilons of an output's own dtype that are always allowed; larger than the tolerance for float16 only."""


@dataclass(frozen=True)
class Tolerance:
    """The allowed difference of an element: ``rtol`` of the element plus ``atol`` of the output's largest element."""

    rtol: float
    atol: float

    def __str__(self) -> str:
        return f"{self.rtol:g} of the element plus {self.atol:g} of the output's largest"

    def bound(self, wanted: Array) -> Array:
        """Return the allowed difference of each element; zero for integers."""
        if wanted.dtype.kind != "f":
            return np.zeros(wanted.shape)
        least = _ROUNDING * float(np.finfo(wanted.dtype).eps)
        sizes = np.abs(np.where(np.isfinite(wanted), wanted, 0).astype(np.float64))
        return max(self.rtol, least) * sizes + max(self.atol, least) * max(1.0, float(sizes.max(initial=0.0)))


@dataclass(frozen=True)
class Difference:
    """The largest difference between an output of two models."""

    output: str
    size: str
    """Sizes of the dynamic dimensions, as text."""
    largest: float
    """The largest absolute difference."""
    excess: float
    """The largest difference as a multiple of the allowed one."""
    detail: str = ""
    """Position and the two values, as text."""


@dataclass(frozen=True)
class Parity:
    """The proof that two models agree."""

    worst: Difference
    sizes: tuple[str, ...]
    """Sizes that both models were run at."""
    skipped: tuple[str, ...] = ()
    """Sizes left out, each with the reason."""


def feeds(signature: Signature, dataset: Dataset | None, *, size: int) -> tuple[list[Arrays], str]:
    """Make feeds at two batch sizes if the batch is dynamic, from the dataset if there is one; and describe them.

    ``size`` is the size of other dynamic dimensions in synthetic feeds.
    """
    free = signature.batch_dim or (dataset is None and signature.fixed_batch is None)
    batches = BATCHES if free else (signature.fixed_batch or 1,)
    if dataset is None:
        made_up = [synthetic_feed(signature.inputs, batch=batch, size=size, seed=batch) for batch in batches]
        return made_up, "made-up inputs (give --data for real ones)"
    if dataset.source.whole_feeds:
        chosen = dataset.take(len(BATCHES))
        chosen.check(signature.inputs)
        return [batch.feed for batch in chosen.batches()], f"real feeds of {dataset.source.path}"
    dataset.check(signature.inputs, samples=max(batches))
    return [next(dataset.batches(batch, pad=True)).feed for batch in batches], f"samples of {dataset.source.path}"


def halve_dimensions(feed: Arrays, signature: Signature) -> Arrays | None:
    """Halve all dynamic dimensions of a feed but the batch; ``None`` if there are none."""
    cut = dict(feed)
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str) and dim != signature.batch_dim:
                half = (feed[spec.name].shape[axis] + 1) // 2
                cut[spec.name] = np.ascontiguousarray(np.take(cut[spec.name], range(half), axis))
    return None if all(cut[name].shape == feed[name].shape for name in feed) else cut


def prove(source: Model, result: Model, signature: Signature, given: Sequence[Arrays], tolerance: Tolerance) -> Parity:
    """Run both models on the feeds and, if the source takes it, on the last feed with shorter dynamic dimensions.

    Raises ParityError if they differ by more than ``tolerance``, StageError if the source itself fails.
    """
    skipped: tuple[str, ...] = ()
    with Worker(resolve_candidate(source)) as expected, _opened(result) as actual:
        pairs = [(feed, _run_source(expected, feed, signature)) for feed in given]
        shorter = halve_dimensions(given[-1], signature)
        if shorter is not None:
            try:
                pairs.append((shorter, expected.run(shorter)))
            except TargetError as error:
                skipped = (f"not compared at {_size(shorter, signature)}: the source itself fails: {error.message}",)
        differences = [_compared(wanted, actual, feed, signature, tolerance) for feed, wanted in pairs]
    worst = max(differences, key=lambda each: each.excess)
    if worst.excess > 1:
        raise ParityError(
            f"output {worst.output!r}: the export differs from {source.path.name} by {worst.largest:.3g} at "
            f"{worst.size}, {worst.detail}; allowed is {tolerance}",
            hint="a model that draws random numbers or branches on its data cannot be exported as it stands; "
            "--rtol and --atol allow more",
        )
    return Parity(worst, tuple(each.size for each in differences), skipped)


def _opened(result: Model) -> Worker:
    try:
        return Worker(resolve_candidate(result))
    except TargetError as error:
        raise StageError(
            f"the exported model does not run: {error.message}",
            hint="save the model in float32 (after .float()), or try another --opset",
        ) from None


def _run_source(session: Worker, feed: Arrays, signature: Signature) -> Arrays:
    try:
        return session.run(feed)
    except TargetError as error:
        raise StageError(
            f"{session.candidate.name}: the model itself fails at {_size(feed, signature)}: {error.message}",
            hint="give the size that it needs as a number in --input, or data that it takes: --data",
        ) from None


def _compared(wanted: Arrays, session: Worker, feed: Arrays, signature: Signature, tolerance: Tolerance) -> Difference:
    """Return the worst difference among the outputs for one feed. Raises ParityError."""
    size = _size(feed, signature)
    try:
        got = session.run(feed)
    except TargetError as error:
        raise ParityError(
            f"the export fails at {size}, where its source runs: {error.message}",
            hint="the model's code depends on this size; give it as a number in --input",
        ) from None
    if len(wanted) != len(got):
        raise ParityError(f"the export has {len(got)} outputs, its source {len(wanted)}")
    pairs = zip(got.items(), wanted.values(), strict=True)
    worst = [difference(name, right, found, feed, size, tolerance) for (name, found), right in pairs]
    return max(worst, key=lambda each: each.excess)


def difference(name: str, wanted: Array, got: Array, feed: Arrays, size: str, tolerance: Tolerance) -> Difference:
    """Compare ``got`` with ``wanted``, without padding. Raises ParityError if the shapes differ."""
    if wanted.shape != got.shape:
        raise ParityError(
            f"output {name!r}: at {size} the export has the shape {list(got.shape)}, its source {list(wanted.shape)}",
            hint="squeeze() without an axis drops a batch of one: name the axis",
        )
    bound = tolerance.bound(wanted)
    same = (wanted == got) | ((wanted != wanted) & (got != got))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.where(same, 0.0, np.abs(wanted.astype(np.float64) - got.astype(np.float64)))
        apart = np.where(unmasked(apart, feed), np.where(np.isnan(apart), np.inf, apart), 0.0)
        excess = np.where(apart == 0, 0.0, apart / bound)
    if not excess.size:
        return Difference(name, size, 0.0, 0.0)
    place = np.unravel_index(int(np.argmax(excess)), excess.shape)
    where = f"where it is {got[place]:g} at {[int(index) for index in place]} and not {wanted[place]:g}"
    return Difference(name, size, float(apart.max()), float(excess[place]), where)


def _size(feed: Arrays, signature: Signature) -> str:
    """Describe the sizes of the dynamic dimensions: ``batch 5, seq 32``, or ``its fixed size`` if there are none."""
    sizes = {
        dim: feed[spec.name].shape[axis]
        for spec in signature.inputs
        for axis, dim in enumerate(spec.shape or ())
        if isinstance(dim, str)
    }
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "its fixed size"
