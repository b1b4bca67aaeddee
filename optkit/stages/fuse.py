"""Fuse: groups of operators rewritten to ONNX Runtime's fused operators: attention, normalization, GELU.

ONNX Runtime's own optimizer knows the patterns of older exporters; in graphs of today's torch it finds no attention.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from optkit import lazy
from optkit.errors import OptkitError, SignatureError, StageError, UsageError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.measurement import parity
from optkit.measurement.parity import Tolerance
from optkit.notes import Note
from optkit.stages.stage import Context, Outcome, Stage
from optkit.system import native
from optkit.system.native import Engine
from optkit.targets.target import offered, target

_CONTRIBUTED = "com.microsoft"
_SHARED = ("num_heads", "scale", "mask_filter_value")
"""Attributes that Attention and MultiHeadAttention have in common."""
_TOLERANCE = Tolerance(rtol=1e-3, atol=1e-4)
"""That of an export: sums in another order."""


class Fuse(Stage):
    """An ONNX model with ONNX Runtime's own operators in it; other runtimes may refuse it."""

    name: ClassVar[str] = "fuse"

    def check(self, model: Model, context: Context) -> None:
        """Refuse other targets and formats."""
        if not target(context.target).fused_operators:
            owners = " and ".join(each.name for each in offered() if each.fused_operators)
            raise UsageError(f"the fused operators are {owners}'s, not {context.target}'s")
        if model.format != "onnx":
            raise UsageError(f"{model.path}: fuse works on ONNX, not on {model.format}", hint="export it first")

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write the fused graph. Raises StageError where nothing fuses, or the result computes something else."""
        engine = Engine("onnxscript")
        proto = _fused(model, engine)
        counts = Counter(node.op_type for node in walk(proto) if node.domain == _CONTRIBUTED)
        before = Counter(node.op_type for node in walk(graph.parse(model.path)) if node.domain == _CONTRIBUTED)
        if counts == before:
            raise StageError("no attention, normalization or GELU to fuse")
        path = context.workdir / "model.onnx"
        graph.save(proto, path)
        result = opening.open(path)
        notes = [Note("fused: " + ", ".join(f"{count} x {name}" for name, count in sorted(counts.items())))]
        notes.append(_proven(model, result, context))
        return Outcome(result, tuple(notes), engine.name, "fuse", engine.seconds, dict(counts))


def _fused(model: Model, engine: Engine) -> Any:
    lazy.require("onnxscript", extra="torch")
    from onnxscript import ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    proto = graph.load(model.path)
    with engine.running(), native.silent():
        rewritten, _ = optimize_for_ort(ir.from_proto(proto))
        fused = ir.to_proto(rewritten)
    _unpack(fused)
    return fused


def _unpack(proto: Any) -> None:
    """Make each Attention three products and a MultiHeadAttention, in place.

    Its weight is joined when the model is loaded, and no quantizer looks there: a third of a transformer would stay in
    float. In float both take the same time.
    """
    from onnx import helper

    makers = {output: node for node in proto.graph.node for output in node.output}
    stored = {tensor.name for tensor in proto.graph.initializer}
    nodes: list[Any] = []
    for node in proto.graph.node:
        joined = makers.get(node.input[1]) if node.op_type == "Attention" else None
        if joined is None or not _plainly_joined(node, joined, stored):
            nodes.append(node)
            continue
        parts = [f"{node.output[0]}_{part}" for part in "qkv"]
        source = node.input[0]
        nodes += [
            helper.make_node("MatMul", [source, weight], [part], part)
            for weight, part in zip(joined.input, parts, strict=True)
        ]
        inputs = [*parts, node.input[2], "", *node.input[5:6]]
        attention = helper.make_node(
            "MultiHeadAttention", inputs, node.output[:1], f"{node.output[0]}_heads", domain=_CONTRIBUTED
        )
        attention.attribute.extend(each for each in node.attribute if each.name in _SHARED)
        nodes.append(attention)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _plainly_joined(attention: Any, joined: Any, stored: set[str]) -> bool:
    """True if the weight is three initializers side by side, and the node has no other optional input or attribute."""
    simple = not any(attention.input[3:5]) and len(attention.input) > 2 and len(attention.output) == 1
    known = all(each.name in (*_SHARED, "qkv_hidden_sizes") for each in attention.attribute)
    beside = joined.op_type == "Concat" and any(each.name == "axis" and each.i in (1, -1) for each in joined.attribute)
    return simple and known and beside and len(joined.input) == 3 and stored.issuperset(joined.input)


def _proven(model: Model, result: Model, context: Context) -> Note:
    """Compare the outputs of both, on real data where there is some."""
    if model.signature is None:
        raise SignatureError(f"{model.path} does not tell its inputs")
    given, what = parity.feeds(model.signature, context.calibration or context.evaluation, size=64)
    try:
        agreement = parity.prove(model, result, model.signature, given, _TOLERANCE)
    except OptkitError as error:
        raise StageError(f"the fused graph is wrong: {error.message}") from None
    return Note(f"computes the same: largest difference {agreement.worst.largest:.2g}, on {what}")
