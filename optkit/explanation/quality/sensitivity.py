"""Sensitivity of layers to INT8: the error of the model's outputs with one layer quantized and all others in float.

Partial quantization keeps the few most sensitive layers in float (Wu et al., Integer Quantization for Deep Learning
Inference, 2020, section 5.2). A layer's sensitivity is called its damage.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optkit.data.dataset import Batch, Dataset
from optkit.errors import MetricError, StageError
from optkit.explanation.quality import switchable_layers
from optkit.explanation.quality.switchable_layers import ERRORS, HIGHS, LOWS, SIZES, SWITCHES, SwitchableLayer
from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.tensors import Array, Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.metrics import fidelity
from optkit.progress import Progress, no_progress
from optkit.quantization import affine
from optkit.quantization.affine import Affine
from optkit.quantization.preparation import simplified
from optkit.records.layers import LayerRecord, Sensitivity
from optkit.system import fingerprint
from optkit.system.native import Engine
from optkit.targets.table import REFERENCE
from optkit.targets.target import target

SECONDS = 30.0
"""Default time limit."""
SAMPLES = 32
"""Default number of samples."""
_FOR_RANGES = 0.25
"""Share of the time for calibrating ranges."""
_LARGE = 1_000_000_000
"""Bytes of weights from which on constant folding is off: folded to float, INT8 weights would double the memory."""


def sensitivity(
    model: Model,
    calibration: Dataset,
    *,
    samples: int = SAMPLES,
    per_channel: bool = True,
    activations: bool = False,
    seconds: float = SECONDS,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Sensitivity:
    """Measure the sensitivity of each layer of a float ONNX model on at most ``samples`` of the calibration data.

    Runs as many samples as ``seconds`` allow, at least one batch, each once per layer. ``activations`` includes matrix
    products of two activations and those whose weight is the first input, which NNCF quantizes and the static method
    for onnxruntime does not.

    Raises StageError if the model has no such layer, and the errors of Worker.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="optkit-") as name:
        workdir = Path(name)
        path, _ = simplified(model, workdir, Engine())
        proto = graph.load(path)
        layers = switchable_layers.switchable_layers(proto, activations=activations)
        if not layers:
            raise StageError(
                f"{model.path}: no Conv, MatMul or Gemm in float with constant weights, so no layer to measure",
                hint="the model may be quantized or of another kind: optkit inspect shows its operators",
            )
        size = (model.signature.fixed_batch if model.signature else None) or 1
        measuring = _Measuring(workdir, size, threads, progress)
        calibrated = measuring.calibrate(proto, layers, calibration, _FOR_RANGES * seconds)
        bits = 7 if fingerprint.saturates() else 8
        made = switchable_layers.with_switches(proto, layers, calibrated.parameters, per_channel=per_channel, bits=bits)
        left = seconds - (time.perf_counter() - started)
        damages, errors, count = measuring.damages(made, len(layers), calibration.take(samples), left)
    records = [
        _record(layer, damage, error, operations)
        for layer, damage, error, operations in zip(layers, damages[:-1], errors, calibrated.operations, strict=True)
    ]
    return Sensitivity(
        layers=sorted(records, key=lambda record: -record.damage),
        all_quantized=damages[-1],
        samples=count,
        calibration_samples=calibrated.samples,
        weight_bits=bits,
        seconds=time.perf_counter() - started,
    )


class _Calibrated:
    """Ranges of the activations and sizes of the layers, collected over the calibration samples."""

    def __init__(self, layers: list[SwitchableLayer]) -> None:
        self._layers, self._names = layers, switchable_layers.ranged_tensors(layers)
        self._lows = np.full(len(self._names), np.inf)
        self._highs = np.full(len(self._names), -np.inf)
        self._sizes: list[int] = []
        self.samples = 0

    def add(self, outputs: Arrays, count: int) -> None:
        """Widen the ranges by the outputs for ``count`` samples."""
        self._lows = np.fmin(self._lows, outputs[LOWS])
        self._highs = np.fmax(self._highs, outputs[HIGHS])
        self._sizes = self._sizes or [int(size) for size in outputs[SIZES]]
        self.samples += count

    @property
    def parameters(self) -> Mapping[str, Affine]:
        """Scale and zero point of each activation."""
        pairs = zip(self._names, self._lows, self._highs, strict=True)
        return {name: affine.of_range(float(low), float(high)) for name, low, high in pairs}

    @property
    def operations(self) -> list[int]:
        """Multiplications of each layer."""
        pairs = zip(self._layers, self._sizes[::2], self._sizes[1::2], strict=True)
        return [layer.operations(before, after) for layer, before, after in pairs]


class _Measuring:
    """Runs of the instrumented graphs in a child process, on as many samples as the time allows."""

    def __init__(self, workdir: Path, size: int, threads: int | None, progress: Progress) -> None:
        self._workdir, self._size, self._threads, self._progress = workdir, size, threads, progress

    def calibrate(self, proto: Any, layers: list[SwitchableLayer], dataset: Dataset, seconds: float) -> _Calibrated:
        """Collect ranges on as many calibration samples as ``seconds`` allow."""
        calibrated = _Calibrated(layers)
        with self._worker(switchable_layers.with_ranges(proto, layers), "ranges") as worker:
            first = next(dataset.batches(self._size, pad=True))
            chosen = dataset.take(self._affordable(worker, first.feed, 1, seconds))
            for batch in self._batches(chosen):
                calibrated.add(worker.run(batch.feed), batch.count)
                self._progress("ranges", min(calibrated.samples, len(chosen)), len(chosen))
        return calibrated

    def damages(self, made: Any, layers: int, dataset: Dataset, seconds: float) -> tuple[list[float], list[float], int]:
        """Measure the damage of each layer and, last, of all together; each layer's local error; the sample count."""
        choices = np.concatenate([np.eye(layers, dtype=bool), np.ones((1, layers), bool)])
        damages, errors, count = np.zeros(layers + 1), np.zeros(layers), 0
        with self._worker(made, "switches") as worker:
            first = next(dataset.batches(self._size, pad=True))
            one = first.feed | {SWITCHES: choices[0]}
            chosen = dataset.take(self._affordable(worker, one, layers + 2, seconds))
            filled = None if dataset.source.whole_feeds else self._size
            for batch in self._batches(chosen):
                wanted = worker.run(batch.feed | {SWITCHES: np.zeros(layers, bool)})
                for number, switched in enumerate(choices):
                    outputs = worker.run(batch.feed | {SWITCHES: switched})
                    damages[number] += batch.count * damage(outputs, wanted, batch, filled)
                    if number < layers:
                        errors[number] += batch.count * _finite(float(outputs[ERRORS][number]))
                    self._progress("sensitivity", count * len(choices) + number, len(chosen) * len(choices))
                count += batch.count
        return list(map(float, damages / count)), list(map(float, errors / count)), count

    def _worker(self, proto: Any, name: str) -> Worker:
        large = graph.weight_bytes(proto) > _LARGE
        path = self._workdir / f"{name}.onnx"
        graph.save(proto, path)
        options = target(REFERENCE).default_options(threads=self._threads)
        # Otherwise onnxruntime would turn Q/DQ pairs into integer arithmetic, or remove them.
        config = options["session_config"] | {"session.disable_quant_qdq": "1"}
        level = "ORT_DISABLE_ALL" if large else options["graph_optimization_level"]
        options |= {"session_config": config, "graph_optimization_level": level}
        return Worker(Candidate(name, Model(path, "onnx", digest=""), REFERENCE, options))

    def _affordable(self, worker: Worker, feed: Arrays, runs: int, seconds: float) -> int:
        """Return the number of samples that can be run ``runs`` times each in that time; at least one batch."""
        worker.run(feed)
        started = time.perf_counter()
        worker.run(feed)
        once = max(time.perf_counter() - started, 1e-6)
        return self._size * max(1, math.floor(seconds / (once * runs)))

    def _batches(self, dataset: Dataset) -> Iterator[Batch]:
        return dataset.batches(self._size, pad=True)


def damage(outputs: Arrays, wanted: Arrays, batch: Batch, filled: int | None) -> float:
    """Return the relative squared error per sample, averaged over the batch and summed over the model's outputs.

    Masked tokens, padding samples of a batch filled up to ``filled``, and text outputs do not count.
    """
    total = 0.0
    for name, expected in wanted.items():
        if name == ERRORS or expected.dtype.kind not in "fiub":
            continue
        try:
            rows = fidelity.relative_errors(name, outputs[name], expected, batch.feed)
        except MetricError:  # the shape differs, in a model whose output shapes depend on values
            rows = np.ones(1)
        total += float(_real(rows, batch, filled).mean()) if rows.size else 0.0
    return total


def _real(rows: Array, batch: Batch, filled: int | None) -> Array:
    return rows[: batch.count] if filled is not None and len(rows) == filled else rows


def _finite(value: float) -> float:
    return value if math.isfinite(value) else fidelity.BROKEN


def _record(layer: SwitchableLayer, damage: float, error: float, operations: int) -> LayerRecord:
    return LayerRecord(
        name=layer.node.name,
        operator=layer.node.op_type,
        depth=layer.depth,
        parameters=0 if layer.weight is None else layer.weight.size,
        operations=operations,
        damage=damage,
        local_error=error,
        nncf_only=layer.nncf_only,
    )
