"""Where the quality went between a float baseline and a quantized candidate: tensor by tensor on the same samples.

The error of a layer's output against the float model's is what post-training quantization is debugged by (Nagel et
al., A White Paper on Neural Network Quantization, 2021, section 4); errors accumulate from layer to layer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from optkit import fidelity, findings, machine, taps
from optkit import spans as limits
from optkit.data import Batch, Dataset
from optkit.errors import MetricError, StageError
from optkit.layerrecords import LayerErrorRecord, LayerErrors, RangeRecord
from optkit.spans import Span
from optkit.stage import Progress, no_progress
from optkit.taps import Layer, Point
from optkit.tensors import Array, Arrays
from optkit.worker import Candidate, Worker

SAMPLES = 8
_MIDDLE = (0.005, 0.995)
_STEPS = 255
_CHANNELS_FIRST = 4
"""The rank from which on channels are axis 1, not the last."""
_MIN_CHANNELS = 4
"""With fewer, none is an outlier among them."""


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
    before = taps.points(baseline.model)
    chosen, unmatched = taps.layers(before, taps.tensors(taps.points(candidate.model)))
    if not chosen:
        raise StageError(
            f"{candidate.model.path}: no layer's tensor of {baseline.model.path} is in it under its name",
            hint="compare the quantized model as quantize wrote it: compiling one for a runtime renames its tensors",
        )
    scales = limits.spans(candidate.model)
    errors, ranges = {layer.tensor: _Error() for layer in chosen}, {span.tensor: _Range(span) for span in scales}
    dataset, calibrating = evaluation.take(samples), calibration.take(samples) if calibration else None
    disturbed = _compare(baseline, candidate, errors, ranges, dataset, calibrating, progress)
    layers = _records(chosen, errors)
    limited = [each.record(_around(before, name)) for name, each in ranges.items() if each.count]
    wide = limits.weights_in_eight_bits(candidate.model) if machine.saturates() else 0
    return LayerErrors(
        layers=layers,
        ranges=limited,
        findings=findings.of(layers, limited, wide, disturbed),
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
        made = taps.tapped(candidate.model, {*names, *(spec.name for spec in outputs)}, Path(folder))
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

    def __init__(self, span: Span) -> None:
        self._span = span
        self._low, self._high = np.inf, -np.inf
        self._middle = [np.inf, -np.inf]
        self._outside = 0
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
        low, high = np.quantile(finite, _MIDDLE)
        self._middle = [min(self._middle[0], float(low)), max(self._middle[1], float(high))]
        self._add_channels(values)

    def calibrated(self, values: Array) -> None:
        """Take what the baseline's values are on calibration samples."""
        finite = _finite(values)
        self._calibrated.append(self._beyond(finite) / max(finite.size, 1))

    def _beyond(self, finite: Array) -> int:
        slack = (self._span.high - self._span.low) / _STEPS / 2  # what rounds to the limit is not beyond it
        return int(np.count_nonzero((finite < self._span.low - slack) | (finite > self._span.high + slack)))

    def _add_channels(self, values: Array) -> None:
        if values.ndim < 2:
            return
        axis = 1 if values.ndim >= _CHANNELS_FIRST else values.ndim - 1
        others = tuple(each for each in range(values.ndim) if each != axis)
        peaks = np.nan_to_num(np.abs(values)).max(axis=others)
        known = self._channels
        self._channels = peaks if known is None or known.shape != peaks.shape else np.maximum(known, peaks)

    def record(self, exclude: list[str]) -> RangeRecord:
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
            used=float(high - low) / width,
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


def _around(found: Iterable[Point], tensor: str) -> list[str]:
    """The names of the layers that give or take the tensor."""
    around = (point for point in found if tensor in (*point.inputs, *point.outputs))
    return [point.name for point in around if point.operator in taps.LAYERS]


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
