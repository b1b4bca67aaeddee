"""The contract of a quantizer: one method of one engine that lowers a model's precision."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optkit import lazy
from optkit.data.dataset import Dataset
from optkit.formats.model import Model
from optkit.formats.onnx import nodes
from optkit.formats.tensors import Arrays
from optkit.notes import Note
from optkit.options.verbs.quantize import QuantizeOptions
from optkit.progress import Progress, no_progress
from optkit.system import native
from optkit.system.native import Engine
from optkit.targets.onnxruntime import providers

QUANTIZERS = {
    "onnxruntime-dynamic": "optkit.quantization.methods.onnxruntime_dynamic:quantize",
    "onnxruntime-static": "optkit.quantization.methods.onnxruntime_static:quantize",
    "onnxruntime-weight-only": "optkit.quantization.methods.onnxruntime_weight_only:quantize",
    "onnxruntime-convert": "optkit.quantization.methods.onnxruntime_convert:quantize",
    "nncf-static": "optkit.quantization.methods.nncf_static:quantize",
    "nncf-weight-only": "optkit.quantization.methods.nncf_weight_only:quantize",
    "neural-compressor-static": "optkit.quantization.methods.neural_compressor_static:quantize",
    "tensorrt-static": "optkit.quantization.methods.tensorrt_static:quantize",
    "openvino-convert": "optkit.quantization.methods.openvino_convert:quantize",
    "tensorrt-float8": "optkit.quantization.methods.tensorrt_float8:quantize",
    "tensorrt-convert": "optkit.quantization.methods.tensorrt_convert:quantize",
}
"""By engine and method."""


_FUSED = "/MatMulAddFusion"
"""What onnxruntime adds to the name of a MatMul when it makes a Gemm of it and the Add behind it."""


CALIBRATES = {
    "onnxruntime": ("minmax", "entropy", "percentile"),
    "nncf": ("minmax", "mean", "percentile"),
    "neural-compressor": ("minmax", "entropy"),
    "tensorrt": ("minmax", "entropy", "percentile"),
}
"""The ways to calibrate that an engine knows."""


@dataclass(frozen=True)
class Request:
    """The model, the options of its quantization, and a folder to write to.

    ``options.floats`` is the type of the operators outside integers, or of all where ``bits`` is not 4 or 8;
    ``options.bias_correction`` is none after quantization-aware training.
    """

    model: Model
    workdir: Path
    bits: int
    calibration: Dataset | None = None
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    progress: Progress = no_progress
    engine: Engine = field(default_factory=Engine)

    def feeds(self) -> Iterator[Arrays]:
        """Calibration feeds, one at a time, so that memory does not grow with their number."""
        if self.calibration is None:
            return
        size = (self.model.signature.fixed_batch if self.model.signature else None) or 1
        total = len(self.calibration)
        for number, batch in enumerate(self.calibration.batches(size, pad=True)):
            self.progress("calibrate", min(number * size, total), total)
            yield batch.feed

    def excludes(self, node: Any) -> bool:
        """Whether the user wants this ONNX node kept in float."""
        return not known_as(node).isdisjoint(self.options.exclude)

    def unknown(self, proto: Any) -> tuple[Note, ...]:
        """Notes on what of ``exclude`` is no node of this graph, and no operator in it."""
        known = {name for node in nodes.walk(proto) for name in known_as(node)}
        return excluding_nothing(name for name in self.options.exclude if name not in known)


@dataclass(frozen=True)
class Quantized:
    """The file that a quantizer wrote, runtime options that belong to it, and what the user should know."""

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


Quantizer = Callable[[Request], Quantized]


def quantizer(engine: str, method: str) -> Quantizer:
    """The quantizer of an engine's method. Raises UsageError where the engine has no such method."""
    found: Quantizer = lazy.resolve(QUANTIZERS, f"{engine}-{method}", kind="engine and method")
    return found


@contextmanager
def silent() -> Iterator[None]:
    """Keep engines' logs (onnxruntime's too), warnings and progress bars on stdout from the user."""
    with providers.quiet() if "onnxruntime" in sys.modules else native.silent():
        yield


def known_as(node: Any) -> set[str]:
    """What a user may call an ONNX node: its name, its operator; those of the MatMul too that a Gemm was made of."""
    former, fused, _ = node.name.partition(_FUSED)
    return {node.name, node.op_type} | ({former, "MatMul"} if fused else set())


def excluding_nothing(names: Iterable[str]) -> tuple[Note, ...]:
    """A note on each name to exclude that nothing in the model bears."""
    why = "no node or operator of this name in the model; optkit inspect shows its operators"
    return tuple(Note(f"exclude {name!r} left nothing in float: {why}", level="warning") for name in names)
