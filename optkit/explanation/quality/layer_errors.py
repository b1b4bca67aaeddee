"""Where the quality went between a float baseline and a quantized candidate: tensor by tensor on the same samples.

The error of a layer's output against the float model's is what post-training quantization is debugged by (Nagel et
al., A White Paper on Neural Network Quantization, 2021, section 4); errors accumulate from layer to layer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from optkit.data.dataset import Batch, Dataset
from optkit.errors import MetricError, StageError
from optkit.explanation.quality import causes as quality_causes
from optkit.explanation.quality import intermediates, quantized_ranges
from optkit.explanation.quality.intermediates import Layer, Point
from optkit.explanation.quality.quantized_ranges import Span
from optkit.formats.operators import family
from optkit.formats.tensors import Array, Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.metrics import fidelity
from optkit.progress import Progress, no_progress
from optkit.records.layers import LayerErrorRecord, LayerErrors, RangeRecord
from optkit.system import fingerprint

SAMPLES = 8
_MIDDLE = (0.005, 0.995)
_STEPS = 255
_CHANNELS_FIRST = 4
"""The rank from which on channels are axis 1, not the last; before a convolution they always are."""
_CONVOLVED = 3
"""The least rank that a convolution takes."""
_MIN_CHANNELS = 4
"""With fewer, none is an outlier among them."""
_CHANCE = 0.01


def layer_errors(
    baseline: Candidate,
    candidate: Candidate,
    evaluation: Dataset,
    *,
    calibration: Dataset | None = None,
    samples: int = SAMPLES,
    progress: Progress = no_progress,
) -> LayerErrors:
    """Compare the tensors that both models have, on at most ``samples`` of the evaluation data.

    With the ``calibration`` data, as many of its samples tell data that is not alike from an engine that cuts extremes
    off. Both are ONNX or OpenVINO IR, each on its own target. Raises StageError where no tensor of a layer is in both,
    and what a Worker raises.
    """
    started = time.perf_counter()
    before = intermediates.points(baseline.model)
    chosen, unmatched = intermediates.layers(before, intermediates.tensors(intermediates.points(candidate.model)))
    if not chosen:
        raise StageError(
            f"{candidate.model.path}: no layer's tensor of {baseline.model.path} is in it under its name",
            hint="compare the quantized model as quantize wrote it: compiling one for a runtime renames its tensors",
        )
    scales = quantized_ranges.spans(candidate.model)
    around = _Around(before, candidate.model.format)
    errors = {layer.tensor: _Error() for layer in chosen}
    ranges = {span.tensor: _Range(span, around.convolved(span.tensor)) for span in scales}
    dataset, calibrating = evaluation.take(samples), calibration.take(samples) if calibration else None
    disturbed = _compare(baseline, candidate, errors, ranges, dataset, calibrating, progress)
    layers = _records(chosen, errors)
    leading, made = intermediates.ahead(before), intermediates.behind(before)
    limited = [
        each.record(around.exclude(name), leading.get(name), name in made)
        for name, each in ranges.items()
        if each.count
    ]
    wide = quantized_ranges.weights_in_eight_bits(candidate.model) if fingerprint.saturates() else 0
    return LayerErrors(
        layers=layers,
        ranges=limited,
        findings=quality_causes.of(layers, limited, wide, disturbed),
        samples=len(dataset),
        disturbed=disturbed,
        unmatched=unmatched,
        seconds=time.perf_counter() - started,
    )


def _compare(
    baseline: Candidate,
    candidate: Candidate,
    errors: Mapping[str, _Error],
    ranges: Mapping[str, _Range],
    evaluation: Dataset,
    calibration: Dataset | None,
    progress: Progress,
) -> float:
    """Run both on every sample and let ``errors`` and ``ranges`` take what they need of it; nothing else is kept.

    How much making its tensors visible changed what the candidate itself yields, as a relative error.
    """
    fixed = baseline.model.signature.fixed_batch if baseline.model.signature else None
    with _tapped(baseline, {**errors, **ranges}) as expected:
        with _tapped(candidate, errors) as actual:
            first = next(evaluation.batches(fixed or 1, pad=True))
            disturbed = _disturbed(candidate, first, actual(first.feed))
            for done, batch in enumerate(evaluation.batches(fixed or 1, pad=True)):
                progress("layers", done * (fixed or 1), len(evaluation))
                wanted, got = expected(batch.feed), actual(batch.feed)
                for name in errors.keys() & got.keys():
                    errors[name].add(name, got[name], wanted[name], batch)
                for name in ranges.keys() & wanted.keys():
                    ranges[name].add(wanted[name])
        for batch in calibration.batches(fixed or 1, pad=True) if calibration else ():
            seen = expected(batch.feed)
            for name in ranges.keys() & seen.keys():
                ranges[name].calibrated(seen[name])
    return disturbed


def _disturbed(candidate: Candidate, batch: Batch, tensors: Arrays) -> float:
    with Worker(replace(candidate, sessions=1)) as worker:
        outputs = worker.run(batch.feed)
    rows = [
        fidelity.relative_errors(name, tensors[name], output, batch.feed).mean()
        for name, output in outputs.items()
        if name in tensors and output.dtype.kind == "f"
    ]
    return float(max(rows, default=0.0))


@contextmanager
def _tapped(candidate: Candidate, names: Iterable[str]) -> Iterator[Callable[[Arrays], Arrays]]:
    """A function from a feed to the tensors of these names inside the model, its inputs among them."""
    with tempfile.TemporaryDirectory(prefix="optkit-") as folder:
        outputs = candidate.model.signature.outputs if candidate.model.signature else ()
        made = intermediates.tapped(candidate.model, {*names, *(spec.name for spec in outputs)}, Path(folder))
        with Worker(replace(candidate, model=made.model, sessions=1)) as worker:

            def tensors(feed: Arrays) -> Arrays:
                yielded = worker.run(feed)
                return feed | {name: yielded[output] for name, output in made.outputs.items()}

            yield tensors


class _Error:
    """A tensor's error, a sample's on average."""

    def __init__(self) -> None:
        self._errors: list[float] = []
        self._cosines: list[float] = []

    def add(self, name: str, got: Array, wanted: Array, batch: Batch) -> None:
        try:
            errors = fidelity.relative_errors(name, got, wanted, batch.feed)
            cosines = fidelity.cosines(name, got, wanted, batch.feed)
        except MetricError:  # a layout of the runtime's own: not comparable
            return
        self._errors += map(float, errors[: batch.count])  # what fills a batch comes last
        self._cosines += map(float, cosines[: batch.count])

    @property
    def error(self) -> float:
        return float(np.mean(self._errors)) if self._errors else 0.0

    @property
    def cosine(self) -> float:
        return float(np.mean(self._cosines)) if self._cosines else 1.0


class _Range:
    """What a tensor's values are, beside the limits within which the candidate rounds them."""

    def __init__(self, span: Span, convolved: bool = False) -> None:
        self._span, self._convolved = span, convolved
        self._low, self._high = np.inf, -np.inf
        self._middle = [np.inf, -np.inf]
        self._outside, self._vanished = 0, 0
        self._shares: list[float] = []
        self._calibrated: list[float] = []
        self._channels: Array | None = None
        self.count = 0

    def add(self, values: Array) -> None:
        finite = _finite(values)
        if not finite.size:
            return
        self.count += finite.size
        self._low, self._high = min(self._low, float(finite.min())), max(self._high, float(finite.max()))
        self._outside += self._beyond(finite)
        self._shares.append(self._beyond(finite) / finite.size)
        self._vanished += int(np.count_nonzero((finite != 0) & (np.abs(finite) < self._step / 2)))
        low, high = np.quantile(finite, _MIDDLE)
        self._middle = [min(self._middle[0], float(low)), max(self._middle[1], float(high))]
        self._add_channels(values)

    def calibrated(self, values: Array) -> None:
        """Take what the baseline's values are on calibration samples."""
        finite = _finite(values)
        self._calibrated.append(self._beyond(finite) / max(finite.size, 1))

    def _beyond(self, finite: Array) -> int:
        slack = self._step / 2  # what rounds to the limit is not beyond it
        return int(np.count_nonzero((finite < self._span.low - slack) | (finite > self._span.high + slack)))

    @property
    def _step(self) -> float:
        return (self._span.high - self._span.low) / _STEPS

    def _add_channels(self, values: Array) -> None:
        if values.ndim < (_CONVOLVED if self._convolved else 2):
            return
        axis = 1 if self._convolved or values.ndim >= _CHANNELS_FIRST else values.ndim - 1
        others = tuple(each for each in range(values.ndim) if each != axis)
        peaks = np.nan_to_num(np.abs(values)).max(axis=others)
        known = self._channels
        self._channels = peaks if known is None or known.shape != peaks.shape else np.maximum(known, peaks)

    def record(self, exclude: list[str], logarithm: str | None = None, of_logarithm: bool = False) -> RangeRecord:
        span = self._span
        width = max(span.high - span.low, float(np.finfo(np.float32).tiny))
        low, high = np.clip(self._middle, span.low, span.high)
        channel, ratio = self._largest()
        return RangeRecord(
            tensor=span.tensor,
            exclude=exclude,
            low=span.low,
            high=span.high,
            seen_low=self._low,
            seen_high=self._high,
            outside=self._outside / self.count,
            outside_calibration=float(np.mean(self._calibrated)) if self._calibrated else None,
            unlike=_more(self._shares, self._calibrated),
            used=float(high - low) / width,
            vanished=self._vanished / self.count,
            logarithm=logarithm,
            of_logarithm=of_logarithm,
            channel=channel,
            channel_ratio=ratio,
        )

    def _largest(self) -> tuple[int | None, float | None]:
        peaks = self._channels
        if peaks is None or len(peaks) < _MIN_CHANNELS or not np.median(peaks) > 0:
            return None, None
        return int(np.argmax(peaks)), float(peaks.max() / np.median(peaks))


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)] if values.dtype.kind == "f" else np.empty(0)


def _more(shares: Sequence[float], others: Sequence[float]) -> bool:
    """Whether ``shares`` are larger than ``others`` by more than chance explains (Mann and Whitney's test)."""
    if not others or max(others) == 0:
        return max(shares, default=0.0) > 0
    from scipy.stats import mannwhitneyu  # half a second to import

    return bool(mannwhitneyu(shares, others, alternative="greater").pvalue < _CHANCE)


class _Around:
    """Which operators give and take a tensor; those that only move values aside, as rounding passes through them.

    onnxruntime's quantizer rounds what layers take and convolutions give, NNCF what any operator takes.
    """

    def __init__(self, found: Sequence[Point], made_for: str) -> None:
        self._every_reader = made_for == "openvino"
        self._givers = {name: point for point in found for name in point.outputs}
        self._readers: dict[str, list[Point]] = {}
        for point in found:
            for name in point.inputs:
                self._readers.setdefault(name, []).append(point)

    def exclude(self, tensor: str) -> list[str]:
        """The names of the operators that must stay in float for the tensor not to be rounded."""
        if self._every_reader:
            return list(dict.fromkeys(point.name for point in self._reading(tensor)))
        giving = [point for point in self._giving(tensor) if "Conv" in point.operator]
        return [point.name for point in (*giving, *self._reading(tensor)) if point.operator in intermediates.LAYERS]

    def convolved(self, tensor: str) -> bool:
        """Whether a convolution takes it."""
        return any("Conv" in point.operator for point in self._reading(tensor))

    def _reading(self, tensor: str) -> Iterator[Point]:
        for point in self._readers.get(tensor, []):
            if family(point.operator) == "layout":
                for output in point.outputs:
                    yield from self._reading(output)
            else:
                yield point

    def _giving(self, tensor: str) -> Iterator[Point]:
        point = self._givers.get(tensor)
        while point is not None and family(point.operator) == "layout" and point.inputs:
            point = self._givers.get(point.inputs[0])
        if point is not None:
            yield point


def _records(chosen: list[Layer], errors: Mapping[str, _Error]) -> list[LayerErrorRecord]:
    own = {layer.tensor: errors[layer.tensor].error for layer in chosen}
    lasting = _lasting(chosen, own)
    added = [
        max(0.0, lasting[each.tensor] - max((lasting[name] for name in each.before), default=0.0)) for each in chosen
    ]
    total = sum(added) or 1.0
    return [
        LayerErrorRecord(
            exclude=layer.point.name,
            operator=layer.point.operator,
            tensor=layer.tensor,
            depth=layer.point.depth,
            error=own[layer.tensor],
            cosine=errors[layer.tensor].cosine,
            introduced=introduced,
            share=introduced / total,
        )
        for layer, introduced in zip(chosen, added, strict=True)
    ]


def _lasting(chosen: list[Layer], own: Mapping[str, float]) -> dict[str, float]:
    """Of each layer's error, what the layers right behind it show as well.

    The rest is none: NNCF scales channels between two layers up and down again (channel alignment, SmoothQuant).
    """
    behind: dict[str, float] = {}
    for layer in chosen:
        for name in layer.before:
            behind[name] = max(behind.get(name, 0.0), own[layer.tensor])
    return {name: min(error, behind.get(name, error)) for name, error in own.items()}
