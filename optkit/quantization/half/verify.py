"""Verification of a 16-bit graph on the CPU: emulated in float32 with every result rounded, beside the model.

Run as it is, a 16-bit graph shows nothing there: onnxruntime has no bfloat16, and computes chains of float16 in float32
without rounding between them, so that nothing overflows.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from optkit import units
from optkit.data.dataset import Batch, Dataset
from optkit.errors import MetricError, StageError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.tensors import Array, Arrays
from optkit.metrics import fidelity
from optkit.notes import Note
from optkit.quantization.half.cast import (
    BFLOAT16,
    FLOAT,
    FLOAT16,
    HALF_TYPES,
    HalfGraph,
    infer_dtypes,
    set_elem_type,
    to_float32,
)
from optkit.targets.table import REFERENCE
from optkit.targets.target import target

AS_WRITTEN = {"graph_optimization_level": "ORT_ENABLE_BASIC"}
"""Options of onnxruntime without its own integer kernels; those that it inserts for 8-bit floats compute otherwise."""


@contextmanager
def probe(model: Model, proto: Any, workdir: Path, names: tuple[str, ...] = ()) -> Iterator[Callable[[Arrays], Arrays]]:
    """A function from a feed to the outputs of ``proto``, a changed graph of ``model``, and to the tensors ``names``.

    onnxruntime computes them on the CPU in this process. Raises TargetError where it refuses the graph or fails.
    """
    from onnx import ValueInfoProto

    copied = type(proto)()
    copied.CopyFrom(proto)  # saving takes the weights out of a large model
    given = {value.name for value in copied.graph.output}
    copied.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in given)
    runtime = target(REFERENCE)
    with tempfile.TemporaryDirectory(dir=workdir, prefix="optkit-") as folder:
        path = Path(folder) / "probed.onnx"
        graph.save(copied, path)
        del copied
        options = runtime.default_options() | AS_WRITTEN
        with runtime.open(replace(model, path=path, digest="", signature=None), options) as session:
            yield session.run


def emulated(made: HalfGraph) -> Any:
    """Return the graph in float32, with each 16-bit tensor cast to its type and back."""
    from onnx import helper

    half = made.half.elem_type
    proto = type(made.proto)()
    proto.CopyFrom(made.proto)
    for tensor in proto.graph.initializer:
        if tensor.data_type == half:
            tensor.CopyFrom(to_float32(tensor))
    nodes = []
    for node in made.proto.graph.node:
        changed = type(node)()
        changed.CopyFrom(node)
        nodes.append(changed)
        for place, name in enumerate(node.output):
            if name in made.tensors:
                exact, rounded = f"optkit_exact:{name}", f"optkit_half:{name}"
                changed.output[place] = exact
                nodes.append(helper.make_node("Cast", [exact], [rounded], rounded, to=half))
                nodes.append(helper.make_node("Cast", [rounded], [name], f"optkit_back:{name}", to=FLOAT))
        set_elem_type(changed, half, FLOAT, to_float32)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for value in proto.graph.output:
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = FLOAT
    return proto


def reference_model(model: Model, folder: Path) -> Model:
    """An ONNX model whose results on the CPU are those of ``model`` on a GPU: itself, or ``emulated`` if it is 16-bit.

    It is written below ``folder``.
    """
    proto = graph.load(model.path)
    dtypes, changed = infer_dtypes(proto), False
    for half in (FLOAT16, BFLOAT16):
        computed = {name for node in proto.graph.node for name in node.output if dtypes.get(name) == half.elem_type}
        if computed:
            proto, changed = emulated(HalfGraph(proto, half, frozenset(computed))), True
    if not changed:
        return model
    path = folder / model.path.name
    graph.save(proto, path)
    return opening.open(path)


@dataclass(frozen=True)
class Conversion:
    """A float32 graph of ``model`` (``before``, perhaps with Q/DQ pairs) and the 16-bit graph that was made of it.

    ``types`` names the types of the result for the user.
    """

    model: Model
    before: Any
    after: HalfGraph
    types: str

    def verify(self, samples: Dataset, workdir: Path) -> tuple[Note, ...]:
        """Return a note on each output: its largest difference from the model's over all samples.

        Raises StageError where an output becomes NaN or infinite, naming the first node that does, and TargetError
        where onnxruntime cannot run the graphs.
        """
        found: dict[str, _Difference] = {}
        again = emulated(self.after)
        whole = graph.load(self.model.path)
        with probe(self.model, whole, workdir) as expected, probe(self.model, again, workdir) as actual:
            for batch in _batches(self.model, samples):
                wanted, got = expected(batch.feed), actual(batch.feed)
                for name in wanted:
                    if _overflows(got[name], wanted[name]):
                        raise self._overflow(name, self._first_overflow(batch.feed, again, workdir))
                    found.setdefault(name, _Difference()).add(name, got[name], wanted[name], batch)
        how = f"{self.types} beside float32 on {len(samples)} samples, emulated on the CPU with every result rounded"
        return tuple(Note(f"{how}: {each.text()}", where=name) for name, each in found.items())

    def _first_overflow(self, feed: Arrays, again: Any, workdir: Path) -> Any:
        """Return first node that becomes NaN or infinite in ``again``, the emulated graph, and is finite in float32."""
        computed = {name for node in self.before.graph.node for name in node.output if name}
        names = tuple(name for node in self.after.proto.graph.node for name in node.output if name in computed)
        with probe(self.model, self.before, workdir, names) as expected:
            wanted = expected(feed)
        with probe(self.model, again, workdir, names) as actual:
            got = actual(feed)
        bad = {name for name in names if _overflows(got[name], wanted[name])}
        return next((each for each in self.before.graph.node if bad.intersection(each.output)), None)

    def _overflow(self, output: str, node: Any) -> StageError:
        half = self.after.half
        first = f"{node.op_type} {node.name} is the first" if node is not None else "the first node is unknown"
        ways = ["--bf16, which has float32's range"] if half is FLOAT16 else []
        if self.types in HALF_TYPES:  # beside 8 bits, exclude keeps a layer from 8 bits and not from 16
            ways.insert(0, f"--exclude {node.name if node is not None else 'NAME'}")
        return StageError(
            f"{self.model.path}: output {output} becomes NaN or infinite in {half.name}: {first}",
            hint=", or ".join(ways) or "8 bits alone",
        )


def _batches(model: Model, samples: Dataset) -> Iterator[Batch]:
    return samples.batches((model.signature.fixed_batch if model.signature else None) or 1, pad=True)


class _Difference:
    """The difference of an output from the model's in the worst sample."""

    def __init__(self) -> None:
        self._error, self._cosine = 0.0, 1.0
        self._comparable, self._floats = True, True

    def add(self, name: str, got: Array, wanted: Array, batch: Batch) -> None:
        self._floats = wanted.dtype.kind == "f"
        try:
            errors = fidelity.relative_errors(name, got, wanted, batch.feed)
            cosines = fidelity.cosines(name, got, wanted, batch.feed)
        except MetricError:  # shapes that depend on values, as with detected boxes
            self._comparable = False
            return
        filled = next(iter(batch.feed.values())).shape[:1]
        real = batch.count if wanted.shape[:1] == filled else None  # a recurrent state has its batch on another axis
        worst = float(errors[:real].max(initial=0.0))
        self._error = max(self._error, math.sqrt(worst) if self._floats else worst)  # the errors of floats are squares
        self._cosine = min(self._cosine, float(cosines[:real].min(initial=1.0)))

    def text(self) -> str:
        if not self._comparable:
            return "shapes differ, so that values cannot be compared"
        if not self._floats:
            return f"at most {units.small_percent(self._error)} of a sample's values differ"
        least = math.floor(self._cosine * 1e6) / 1e6  # rounded down: "at least" must hold
        return f"cosine at least {least:.6f}, relative error at most {units.small_percent(self._error)}"


def _overflows(got: Array, wanted: Array) -> bool:
    """Tell whether values that are finite in float32 are NaN or infinite."""
    if got.dtype.kind != "f" or wanted.dtype.kind != "f":
        return False
    if got.shape != wanted.shape:
        return not np.isfinite(got).all() and bool(np.isfinite(wanted).all())
    return bool((~np.isfinite(got) & np.isfinite(wanted)).any())
