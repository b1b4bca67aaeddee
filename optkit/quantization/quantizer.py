"""The contract of a quantizer: one method of one engine that lowers a model's precision."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optkit import lazy
from optkit.data.dataset import Dataset
from optkit.errors import StageError
from optkit.formats.model import Model
from optkit.formats.onnx import graph, nodes
from optkit.formats.onnx.upgrade import constants_to_initializers, upgrade
from optkit.formats.tensors import Arrays
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.quantization.half import widen
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


QUANTIZABLE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators whose integer kernels win; what lies between them is cheaper left in float than converted twice."""


RECURRENT = ("LSTM", "GRU", "RNN")
"""Operators with weights that few methods know."""


_ABSORBED = ("Relu", "Clip")
"""Integers of the right range cut values off by themselves; ranges taken before the cut would waste theirs."""


_FUSED = "/MatMulAddFusion"
"""What onnxruntime adds to the name of a MatMul when it makes a Gemm of it and the Add behind it."""


Floats = Literal["float32", "fp16", "bf16"]
"""The types that operators outside integers may compute in."""


Calibrate = Literal["minmax", "entropy", "percentile", "mean"]


CALIBRATES = {
    "onnxruntime": ("minmax", "entropy", "percentile"),
    "nncf": ("minmax", "mean", "percentile"),
    "neural-compressor": ("minmax", "entropy"),
    "tensorrt": ("minmax", "entropy", "percentile"),
}
"""The ways to calibrate that an engine knows."""


ModelType = Literal["auto", "transformer", "none"]


Preset = Literal["mixed", "performance"]


BiasCorrection = Literal["fast", "accurate", "none"]


@dataclass(frozen=True)
class Request:
    """What to do to which model. ``exclude`` holds names of nodes and operators to keep in float.

    ``floats`` is the type of what does not become integers.
    """

    model: Model
    workdir: Path
    bits: int
    calibration: Dataset | None = None
    calibrate: Calibrate = "minmax"
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    floats: Floats = "float32"
    model_type: ModelType = "auto"
    preset: Preset = "mixed"
    bias_correction: BiasCorrection = "fast"
    smooth_quant: float | None = None
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
        return not known_as(node).isdisjoint(self.exclude)

    def unknown(self, proto: Any) -> tuple[Note, ...]:
        """Notes on what of ``exclude`` is no node of this graph, and no operator in it."""
        known = {name for node in nodes.walk(proto) for name in known_as(node)}
        return excluding_nothing(name for name in self.exclude if name not in known)


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
    """Engines' log lines, onnxruntime's too, progress bars on stdout and warnings off: what matters becomes a note."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with providers.quiet() if "onnxruntime" in sys.modules else contextlib.nullcontext():
                yield
    finally:
        logging.disable(level)


@dataclass(frozen=True)
class Prepared:
    """An ONNX graph that quantizers can work on; ``changed`` tells whether it is still what the model's file holds."""

    proto: Any
    notes: tuple[Note, ...]
    changed: bool


def prepared(model: Model) -> Prepared:
    """Bring the model's graph to a recent opset, its weights to initializers, and give every node a name."""
    proto = graph.load(model.path)
    notes = []
    old = graph.opset_of(proto)
    proto, upgraded = upgrade(proto)
    if upgraded:
        notes.append(Note(f"opset {old} raised to {graph.opset_of(proto)}: scales per channel need 13"))
    moved = constants_to_initializers(proto)
    if moved:
        notes.append(Note(f"{moved} weights moved from Constant nodes to initializers, where quantizers look"))
    halves = widen.widened(proto)
    if halves:
        notes.append(
            Note(f"{halves} tensors in half precision made float32: there are no integer kernels around halves")
        )
    named = _name_nodes(proto)
    return Prepared(proto, tuple(notes), upgraded or halves > 0 or moved > 0 or named > 0)


def simplified(model: Model, workdir: Path, engine: Engine) -> tuple[Path, tuple[Note, ...]]:
    """The graph with batch norms folded and constants computed, as ONNX Runtime would do on loading it.

    The path of its file below ``workdir``, and notes. Static INT8 works on it: ``exclude`` names nodes of it.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready, source, path = prepared(model), model.path, workdir / "simplified.onnx"
    if ready.changed:
        source = workdir / "prepared.onnx"
        graph.save(ready.proto, source)  # given a graph instead of a file, the engine takes its weights away
    with engine.running(), silent():
        try:
            quant_pre_process(source, path, skip_symbolic_shape=True, verbose=0)
        except Exception:  # noqa: BLE001  an optional step: the graph as it stands can be quantized too
            return source, ready.notes
    return path, ready.notes


def _name_nodes(proto: Any) -> int:
    """Name the nodes that have no name; how many those were."""
    taken = {node.name for node in nodes.walk(proto)}
    nameless = [(index, node) for index, node in enumerate(proto.graph.node) if not node.name]
    for index, node in nameless:
        name = f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_unnamed"
    return len(nameless)


def weighted_nodes(proto: Any, operators: tuple[str, ...] = QUANTIZABLE) -> list[Any]:
    """The main graph's nodes of these operators whose second input is a constant weight."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [
        node
        for node in proto.graph.node
        if node.op_type in operators and len(node.input) > 1 and node.input[1] in weights
    ]


def absorbed(proto: Any, chosen: list[Any]) -> list[Any]:
    """Relu and Clip behind a chosen node, one or several."""
    outputs, found = {node.output[0] for node in chosen}, []
    for node in proto.graph.node:  # in the order in which they are computed
        if node.op_type in _ABSORBED and node.input[0] in outputs:
            found.append(node)
            outputs.add(node.output[0])
    return found


def known_as(node: Any) -> set[str]:
    """What a user may call an ONNX node: its name, its operator; those of the MatMul too that a Gemm was made of."""
    former, fused, _ = node.name.partition(_FUSED)
    return {node.name, node.op_type} | ({former, "MatMul"} if fused else set())


def excluding_nothing(names: Iterable[str]) -> tuple[Note, ...]:
    """A note on each name to exclude that nothing in the model bears."""
    why = "no node or operator of this name in the model; optkit inspect shows its operators"
    return tuple(Note(f"exclude {name!r} left nothing in float: {why}", level="warning") for name in names)


def nothing_to_quantize(method: str, proto: Any, operators: Sequence[str], request: Request, hint: str) -> StageError:
    """The error of a method that finds none of these operators with constant weights, or is to leave them all alone."""
    if any(request.excludes(node) for node in weighted_nodes(proto, tuple(operators))):
        return StageError(
            f"{request.model.path}: {method} has nothing to do: every layer that it knows is excluded",
            hint="exclude fewer",
        )
    *others, last = operators
    named = f"{', '.join(others)} or {last}"
    inside = sum(node.op_type in operators for node in nodes.walk(proto)) - _count(proto.graph, operators)
    where = f"; {inside} lie in branches or loops, where it does not look" if inside else ""
    return StageError(f"{request.model.path}: {method} finds no {named} with constant weights{where}", hint=hint)


def _count(part: Any, operators: Sequence[str]) -> int:
    return sum(node.op_type in operators for node in part.node)


def kept_in_float(proto: Any, chosen: list[Any], request: Request) -> tuple[Note, ...]:
    """Notes on operators with weights or integer kernels that stay in float, and why."""
    names = {node.name for node in chosen}
    reasons: dict[str, int] = {}
    for node in nodes.walk(proto):
        if node.op_type not in (*QUANTIZABLE, *RECURRENT) or node.name in names:
            continue
        why = "asked for with exclude" if request.excludes(node) else "not of this method, or without a constant weight"
        reasons[f"{node.op_type} kept in float: {why}"] = reasons.get(f"{node.op_type} kept in float: {why}", 0) + 1
    return tuple(Note(f"{count} x {reason}") for reason, count in reasons.items())
