"""The contract of a quantizer: one method of one engine that lowers a model's precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optkit import lazy
from optkit.data.dataset import Dataset
from optkit.formats.model import Model
from optkit.formats.onnx.nodes import walk
from optkit.formats.tensors import Arrays
from optkit.notes import Note
from optkit.options.verbs.quantize import Calibrate, QuantizeOptions
from optkit.progress import Progress, no_progress
from optkit.quantization.range_cache import RangeCache
from optkit.system.native import Engine

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
"""The suffix that ONNX Runtime gives to a MatMul that it fuses with the Add behind it into a Gemm."""


@dataclass(frozen=True)
class Request:
    """The model, the options of its quantization, and a folder to write to.

    ``options.floats`` is the type of the operators outside integers, or of all where ``bits`` is not 4 or 8;
    ``options.bias_correction`` is none after quantization-aware training. ``ranges`` keeps calibration ranges for
    the next request.
    """

    model: Model
    workdir: Path
    bits: int
    calibration: Dataset | None = None
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    progress: Progress = no_progress
    engine: Engine = field(default_factory=Engine)
    ranges: RangeCache = field(default_factory=RangeCache)

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
        """True if the user wants this ONNX node kept in float."""
        return not known_as(node).isdisjoint(self.options.exclude)

    def unknown(self, proto: Any) -> tuple[Note, ...]:
        """Return notes on the names in ``exclude`` that no node or operator of this graph bears."""
        known = {name for node in walk(proto) for name in known_as(node)}
        return excluding_nothing(name for name in self.options.exclude if name not in known)


@dataclass(frozen=True)
class Quantized:
    """The file that a quantizer wrote, runtime options that belong to it, and what the user should know."""

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantizer:
    """One method of an engine: call it with a Request. Made by ``quantizing``."""

    quantize: Callable[[Request], Quantized]
    calibrations: tuple[Calibrate, ...] = ()
    """The calibration methods that it knows; none where it takes no calibration data."""
    options: frozenset[str] = frozenset()
    """The fields of a Request that it heeds and few others do: ``smooth_quant``, ``preset``."""
    in_float: tuple[str, ...] = ()
    """Operators with weights that it leaves in float, but other static methods do not."""

    def __call__(self, request: Request) -> Quantized:
        return self.quantize(request)


def quantizing(
    *, calibrations: tuple[Calibrate, ...] = (), options: Iterable[str] = (), in_float: tuple[str, ...] = ()
) -> Callable[[Callable[[Request], Quantized]], Quantizer]:
    """Make a decorator that turns a function into a Quantizer."""
    return lambda quantize: Quantizer(quantize, calibrations, frozenset(options), in_float)


def quantizer(engine: str, method: str) -> Quantizer:
    """Return the quantizer of an engine's method. Raises UsageError where the engine has no such method."""
    found: Quantizer = lazy.resolve(QUANTIZERS, f"{engine}-{method}", kind="engine and method")
    return found


def static_quantizer(engine: str) -> Quantizer | None:
    """Return the static method of an engine; ``None`` where it has none."""
    return quantizer(engine, "static") if f"{engine}-static" in QUANTIZERS else None


def known_as(node: Any) -> set[str]:
    """Return names that mean an ONNX node: its own and its operator's, and those of the MatMul that became a Gemm."""
    former, fused, _ = node.name.partition(_FUSED)
    return {node.name, node.op_type} | ({former, "MatMul"} if fused else set())


def excluding_nothing(names: Iterable[str]) -> tuple[Note, ...]:
    """Return a note on each name to exclude that nothing in the model bears."""
    why = "no node or operator of this name in the model; optkit inspect shows its operators"
    return tuple(Note(f"exclude {name!r} left nothing in float: {why}", level="warning") for name in names)
