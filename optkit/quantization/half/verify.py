"""Whether a graph in 16 bits still computes what it did: on the CPU, in float32 with every result rounded.

Run as it is, a narrow graph tells nothing there: onnxruntime has no bfloat16, and computes chains of float16 in
float32 without rounding between, so that nothing overflows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from optkit.quantization.half.cast import BFLOAT16, FLOAT, FLOAT16, NARROWS, Narrow, Narrowed, dtypes, widened_tensor
from optkit.quantization.half.probe import probed


def rounded(narrowed: Narrowed, narrow: Narrow) -> Any:
    """The graph in float32, where each tensor of the narrow type is cast to that and back."""
    from onnx import helper

    proto = type(narrowed.proto)()
    proto.CopyFrom(narrowed.proto)
    for tensor in proto.graph.initializer:
        if tensor.data_type == narrow.number:
            tensor.CopyFrom(widened_tensor(tensor))
    nodes = []
    for node in narrowed.proto.graph.node:
        changed = type(node)()
        changed.CopyFrom(node)
        nodes.append(changed)
        for place, name in enumerate(node.output):
            if name in narrowed.tensors:
                exact, half = f"optkit_exact:{name}", f"optkit_half:{name}"
                changed.output[place] = exact
                nodes.append(helper.make_node("Cast", [exact], [half], half, to=narrow.number))
                nodes.append(helper.make_node("Cast", [half], [name], f"optkit_back:{name}", to=FLOAT))
        _widen_attributes(changed, narrow)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for value in proto.graph.output:
        if value.type.tensor_type.elem_type == narrow.number:
            value.type.tensor_type.elem_type = FLOAT
    return proto


def reference(model: Model, folder: Path) -> Model:
    """An ONNX model that the CPU computes as ``model`` is meant: itself, or where it is narrow, ``rounded``.

    It is written below ``folder``.
    """
    proto = graph.load(model.path)
    known, changed = dtypes(proto), False
    for narrow in (FLOAT16, BFLOAT16):
        made = {name for node in proto.graph.node for name in node.output if known.get(name) == narrow.number}
        if made:
            proto, changed = rounded(Narrowed(proto, frozenset(made)), narrow), True
    if not changed:
        return model
    path = folder / model.path.name
    graph.save(proto, path)
    return opening.open(path)


def _widen_attributes(node: Any, narrow: Narrow) -> None:
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == narrow.number:
            attribute.i = FLOAT
        elif attribute.HasField("t") and attribute.t.data_type == narrow.number:
            attribute.t.CopyFrom(widened_tensor(attribute.t))


def compare(
    model: Model, types: str, before: Any, after: Narrowed, narrow: Narrow, samples: Dataset, workdir: Path
) -> tuple[Note, ...]:
    """A note on each output of the narrow graph in ``types``: how near it comes to ``model``'s on all samples.

    ``before`` is the graph that was made narrow, in float32 or with that between 8 bits. Raises StageError where an
    output becomes NaN or infinite, naming the first node that does, and TargetError where onnxruntime cannot run the
    graphs.
    """
    found: dict[str, _Nearness] = {}
    again = rounded(after, narrow)
    with probed(model, graph.load(model.path), workdir) as expected, probed(model, again, workdir) as actual:
        for batch in _batches(model, samples):
            wanted, got = expected(batch.feed), actual(batch.feed)
            for name in wanted:
                if _broken(got[name], wanted[name]):
                    raise _overflow(model, types, before, after, again, narrow, batch.feed, name, workdir)
                found.setdefault(name, _Nearness()).add(name, got[name], wanted[name], batch)
    how = f"{types} beside float32 on {len(samples)} samples, computed here with every result rounded"
    return tuple(Note(f"{how}: {each.text()}", where=name) for name, each in found.items())


def _batches(model: Model, samples: Dataset) -> Iterator[Batch]:
    return samples.batches((model.signature.fixed_batch if model.signature else None) or 1, pad=True)


class _Nearness:
    """The worst sample of an output."""

    def __init__(self) -> None:
        self._error, self._cosine = 0.0, 1.0
        self._comparable, self._floats = True, True

    def add(self, name: str, got: Array, wanted: Array, batch: Batch) -> None:
        self._floats = wanted.dtype.kind == "f"
        try:
            errors = fidelity.relative_errors(name, got, wanted, batch.feed)
            cosines = fidelity.cosines(name, got, wanted, batch.feed)
        except MetricError:  # as many boxes as were found
            self._comparable = False
            return
        filled = next(iter(batch.feed.values())).shape[:1]
        real = batch.count if wanted.shape[:1] == filled else None  # a recurrent state has its samples elsewhere
        worst = float(errors[:real].max(initial=0.0))
        self._error = max(self._error, math.sqrt(worst) if self._floats else worst)  # they come as squares
        self._cosine = min(self._cosine, float(cosines[:real].min(initial=1.0)))

    def text(self) -> str:
        if not self._comparable:
            return "of other shapes, so not comparable value by value"
        if not self._floats:
            return f"at most {units.small_percent(self._error)} of a sample's values differ"
        least = math.floor(self._cosine * 1e6) / 1e6  # rounding up would say more than was found
        return f"cosine at least {least:.6f}, relative error at most {units.small_percent(self._error)}"


def _broken(got: Array, wanted: Array) -> bool:
    if got.dtype.kind != "f" or wanted.dtype.kind != "f":
        return False
    if got.shape != wanted.shape:
        return not np.isfinite(got).all() and bool(np.isfinite(wanted).all())
    return bool((~np.isfinite(got) & np.isfinite(wanted)).any())


def _overflow(
    model: Model,
    types: str,
    before: Any,
    after: Narrowed,
    again: Any,
    narrow: Narrow,
    feed: Arrays,
    output: str,
    workdir: Path,
) -> StageError:
    """The error that names the first node whose result is no number any more."""
    computed = {name for node in before.graph.node for name in node.output if name}
    names = tuple(name for node in after.proto.graph.node for name in node.output if name in computed)
    with probed(model, before, workdir, names) as expected:
        wanted = expected(feed)
    with probed(model, again, workdir, names) as actual:
        got = actual(feed)
    bad = {name for name in names if _broken(got[name], wanted[name])}
    node = next((each for each in before.graph.node if bad.intersection(each.output)), None)
    first = f"{node.op_type} {node.name} is the first" if node is not None else "where it begins is not known"
    ways = ["--bf16, which has float32's range"] if narrow is FLOAT16 else []
    if types in NARROWS:  # else what is excluded is kept from 8 bits, and from nothing more
        ways.insert(0, f"--exclude {node.name if node is not None else 'NAME'}")
    return StageError(
        f"{model.path}: output {output} becomes NaN or infinite in {narrow.name}: {first}",
        hint=", or ".join(ways) or "8 bits alone",
    )
