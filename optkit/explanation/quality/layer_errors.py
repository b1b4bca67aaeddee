"""Errors of a quantized candidate's intermediate tensors against those of its float baseline, on the same samples.

The error of each layer's output localizes a loss of quality (Nagel et al., A White Paper on Neural Network
Quantization, 2021, section 4); errors accumulate from layer to layer.
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
from optkit.explanation.quality.causes import find_loss_causes
from optkit.explanation.quality.intermediates import (
    LAYERS,
    ComparedLayer,
    Operation,
    before_logarithms,
    behind_logarithms,
    exposable_tensors,
    expose,
    list_operations,
    match_layers,
)
from optkit.explanation.quality.quantized_ranges import RangeStatistics, count_eight_bit_weights, quantized_ranges
from optkit.formats.operators import family
from optkit.formats.tensors import Array, Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.metrics import fidelity
from optkit.progress import Progress, no_progress
from optkit.records.layers import LayerErrorRecord, LayerErrors
from optkit.system import fingerprint

SAMPLES = 8
"""Default number of samples."""


def layer_errors(
    baseline: Candidate,
    candidate: Candidate,
    evaluation: Dataset,
    *,
    calibration: Dataset | None = None,
    samples: int = SAMPLES,
    progress: Progress = no_progress,
) -> LayerErrors:
    """Compare the intermediate tensors that both models have, on at most ``samples`` of the evaluation data.

    With ``calibration``, as many of its samples show why values saturate: because the data differ, or because the
    calibration method clips extremes. Both models are ONNX or OpenVINO IR, each run on its own target. Raises
    StageError if the models share no layer's tensor, and the errors of Worker.
    """
    started = time.perf_counter()
    before = list_operations(baseline.model)
    chosen, unmatched = match_layers(before, exposable_tensors(list_operations(candidate.model)))
    if not chosen:
        raise StageError(
            f"{candidate.model.path}: no intermediate tensor has the name of a layer's output in {baseline.model.path}",
            hint="compare the quantized model as quantize wrote it: compiling one for a runtime renames its tensors",
        )
    neighbours = _Neighbours(before, candidate.model.format)
    errors = {layer.tensor: _Error() for layer in chosen}
    ranges = {
        each.tensor: RangeStatistics(each, neighbours.feeds_convolution(each.tensor))
        for each in quantized_ranges(candidate.model)
    }
    dataset, calibrating = evaluation.take(samples), calibration.take(samples) if calibration else None
    disturbed = _compare(baseline, candidate, errors, ranges, dataset, calibrating, progress)
    layers = _records(chosen, errors)
    logarithms, behind = before_logarithms(before), behind_logarithms(before)
    ranged = [
        each.record(neighbours.exclude(name), logarithms.get(name), name in behind)
        for name, each in ranges.items()
        if each.count
    ]
    wide = count_eight_bit_weights(candidate.model) if fingerprint.saturates() else 0
    return LayerErrors(
        layers=layers,
        ranges=ranged,
        findings=find_loss_causes(layers, ranged, wide, disturbed),
        samples=len(dataset),
        disturbed=disturbed,
        unmatched=unmatched,
        seconds=time.perf_counter() - started,
    )


def _compare(
    baseline: Candidate,
    candidate: Candidate,
    errors: Mapping[str, _Error],
    ranges: Mapping[str, RangeStatistics],
    evaluation: Dataset,
    calibration: Dataset | None,
    progress: Progress,
) -> float:
    """Run both models on every sample and add the tensors to ``errors`` and ``ranges``; no tensor is kept.

    Returns the relative error of the candidate's outputs that exposing its intermediate tensors causes.
    """
    fixed = baseline.model.signature.fixed_batch if baseline.model.signature else None
    with _exposed(baseline, {**errors, **ranges}) as expected:
        with _exposed(candidate, errors) as actual:
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
            tensors = expected(batch.feed)
            for name in ranges.keys() & tensors.keys():
                ranges[name].add_calibration(tensors[name])
    return disturbed


def _disturbed(candidate: Candidate, batch: Batch, tensors: Arrays) -> float:
    """Return the largest relative error of an output among ``tensors`` against the unmodified candidate's."""
    with Worker(replace(candidate, sessions=1)) as worker:
        outputs = worker.run(batch.feed)
    rows = [
        fidelity.relative_errors(name, tensors[name], output, batch.feed).mean()
        for name, output in outputs.items()
        if name in tensors and output.dtype.kind == "f"
    ]
    return float(max(rows, default=0.0))


@contextmanager
def _exposed(candidate: Candidate, names: Iterable[str]) -> Iterator[Callable[[Arrays], Arrays]]:
    """Yield a function from a feed to the named tensors of the model, together with its inputs and outputs."""
    with tempfile.TemporaryDirectory(prefix="optkit-") as folder:
        outputs = candidate.model.signature.outputs if candidate.model.signature else ()
        made = expose(candidate.model, {*names, *(spec.name for spec in outputs)}, Path(folder))
        with Worker(replace(candidate, model=made.model, sessions=1)) as worker:

            def tensors(feed: Arrays) -> Arrays:
                computed = worker.run(feed)
                return feed | {name: computed[output] for name, output in made.outputs.items()}

            yield tensors


class _Error:
    """Mean error and cosine similarity per sample of one tensor."""

    def __init__(self) -> None:
        self._errors: list[float] = []
        self._cosines: list[float] = []

    def add(self, name: str, got: Array, wanted: Array, batch: Batch) -> None:
        """Add the samples of a batch; tensors whose shapes differ are skipped."""
        try:
            errors = fidelity.relative_errors(name, got, wanted, batch.feed)
            cosines = fidelity.cosines(name, got, wanted, batch.feed)
        except MetricError:  # the runtime uses a layout of its own: not comparable
            return
        self._errors += map(float, errors[: batch.count])  # padding samples come last
        self._cosines += map(float, cosines[: batch.count])

    @property
    def error(self) -> float:
        """Squared error over squared values, averaged over the samples."""
        return float(np.mean(self._errors)) if self._errors else 0.0

    @property
    def cosine(self) -> float:
        """Cosine similarity, averaged over the samples."""
        return float(np.mean(self._cosines)) if self._cosines else 1.0


class _Neighbours:
    """Producers and readers of each tensor; layout operators are skipped, because quantized values pass through them.

    onnxruntime's quantizer quantizes inputs of layers and outputs of convolutions, NNCF inputs of any operator.
    """

    def __init__(self, found: Sequence[Operation], format: str) -> None:
        self._every_reader = format == "openvino"
        self._producers = {name: each for each in found for name in each.outputs}
        self._readers: dict[str, list[Operation]] = {}
        for each in found:
            for name in each.inputs:
                self._readers.setdefault(name, []).append(each)

    def exclude(self, tensor: str) -> list[str]:
        """Name the operators that must stay in float for the tensor to stay in float."""
        if self._every_reader:
            return list(dict.fromkeys(each.name for each in self._reading(tensor)))
        producing = [each for each in self._producing(tensor) if "Conv" in each.operator]
        return [each.name for each in (*producing, *self._reading(tensor)) if each.operator in LAYERS]

    def feeds_convolution(self, tensor: str) -> bool:
        """Return True if a convolution reads the tensor."""
        return any("Conv" in each.operator for each in self._reading(tensor))

    def _reading(self, tensor: str) -> Iterator[Operation]:
        for each in self._readers.get(tensor, []):
            if family(each.operator) == "layout":
                for output in each.outputs:
                    yield from self._reading(output)
            else:
                yield each

    def _producing(self, tensor: str) -> Iterator[Operation]:
        found = self._producers.get(tensor)
        while found is not None and family(found.operator) == "layout" and found.inputs:
            found = self._producers.get(found.inputs[0])
        if found is not None:
            yield found


def _records(chosen: list[ComparedLayer], errors: Mapping[str, _Error]) -> list[LayerErrorRecord]:
    own = {layer.tensor: errors[layer.tensor].error for layer in chosen}
    lasting = _lasting_errors(chosen, own)
    added = [
        max(0.0, lasting[each.tensor] - max((lasting[name] for name in each.before), default=0.0)) for each in chosen
    ]
    total = sum(added) or 1.0
    return [
        LayerErrorRecord(
            exclude=layer.operation.name,
            operator=layer.operation.operator,
            tensor=layer.tensor,
            depth=layer.operation.depth,
            error=own[layer.tensor],
            cosine=errors[layer.tensor].cosine,
            introduced=introduced,
            share=introduced / total,
        )
        for layer, introduced in zip(chosen, added, strict=True)
    ]


def _lasting_errors(chosen: list[ComparedLayer], own: Mapping[str, float]) -> dict[str, float]:
    """Limit each layer's error to the largest error of the layers right behind it.

    The rest is no error: NNCF rescales channels between two layers (channel alignment, SmoothQuant).
    """
    behind: dict[str, float] = {}
    for layer in chosen:
        for name in layer.before:
            behind[name] = max(behind.get(name, 0.0), own[layer.tensor])
    return {name: min(error, behind.get(name, error)) for name, error in own.items()}
