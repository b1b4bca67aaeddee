"""A float32 graph in 16 bits, but for what they cannot hold, and beside what it was on samples of its data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optkit.errors import StageError
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.formats.onnx.upgrade import upgrade
from optkit.notes import Note
from optkit.quantization.half import limits as half_limits
from optkit.quantization.half import verify as half_verify
from optkit.quantization.half.cast import FLOAT, FLOAT16, NARROWS, Narrow, dtypes, narrowed, unable
from optkit.quantization.half.limits import PAIRS
from optkit.quantization.half.probe import probed
from optkit.quantization.quantizer import Request

_MOST_SAMPLES = 32
"""Every tensor of each is looked at: ranges settle soon, and a margin is for the rest."""
_SCALED_OPSET = 19
"""From which on ONNX has Q/DQ around float16."""
_ASKED_FOR = "asked for with exclude"


def written(request: Request, proto: Any) -> tuple[Path, tuple[Note, ...], dict[str, Any]]:
    """The path of a quantized graph's file, what it leaves in float in the type asked for; notes and facts of that.

    What ``request`` excludes is kept from 8 bits, and narrow like the rest. Raises as ``converted`` does.
    """
    path = request.workdir / "model.onnx"
    if request.floats not in NARROWS:
        graph.save(proto, path)
        return path, (), {}
    made = converted(replace(request, exclude=()), proto, types=f"8 bits and {request.floats}")
    graph.save(made.proto, path)
    return path, made.notes, {"floats": request.floats, "kept_in_float32": made.kept}


@dataclass(frozen=True)
class Converted:
    """The graph, how many of its operators stay float32, and what the user should know."""

    proto: Any
    kept: int
    notes: tuple[Note, ...]


def converted(request: Request, proto: Any, *, types: str) -> Converted:
    """A graph of the request's model in the 16 bits of ``request.floats``; ``proto`` itself is changed.

    With data, ranges are measured and the outputs compared with the model's; ``types`` is what the graph is then said
    to be in. Raises StageError where nothing can be narrow, or an output would become NaN or infinite, and TargetError
    where the CPU cannot run what is to be measured.
    """
    narrow = NARROWS[request.floats]
    if narrow is FLOAT16 and any(node.op_type in PAIRS for node in walk(proto)):
        proto = _at_opset_of_narrow_pairs(proto, request)
        half_limits.lift_scales(proto)
    known = dtypes(proto)
    notes = _masks(half_limits.shrink_masks(proto, narrow), narrow)
    samples = request.calibration.take(_MOST_SAMPLES) if request.calibration else None
    keep = _kept(proto, narrow, known, replace(request, calibration=samples))
    with request.engine.running():
        made = narrowed(proto, narrow, keep, known)
    if not made.tensors:
        why = Counter(keep.values()).most_common(1)
        told = f"; of most operators: {why[0][0]}" if why else ""
        raise StageError(
            f"{request.model.path}: nothing in it can be {narrow.name}{told}",
            hint="optkit inspect shows the model's operators",
        )
    notes += _reasons(proto, keep)
    if samples is None:
        text = "without data, neither are ranges known nor outputs compared: give --data"
        notes += (Note(text, level="warning"),)
    else:
        notes += half_verify.compare(request.model, types, proto, made, narrow, samples, request.workdir)
    return Converted(made.proto, len(keep), notes)


def _at_opset_of_narrow_pairs(proto: Any, request: Request) -> Any:
    """The graph at an opset whose Q/DQ take float16. For bfloat16 nobody asks of which version a node is."""
    proto, _ = upgrade(proto, _SCALED_OPSET)
    if graph.opset_of(proto) < _SCALED_OPSET:
        raise StageError(
            f"{request.model.path}: Q/DQ in float16 need opset {_SCALED_OPSET}, which this graph cannot be brought to",
            hint="--bf16 instead of --fp16",
        )
    return proto


def _kept(proto: Any, narrow: Narrow, known: dict[str, int], request: Request) -> dict[int, str]:
    """The nodes that stay float32, by their place in the main graph, and why."""
    found = half_limits.delicate(proto, known)
    if narrow is FLOAT16:
        computed = _peaks(proto, known, request)
        found |= half_limits.beyond(proto, narrow, half_limits.weights(proto), computed)
    found |= {place: _ASKED_FOR for place, node in enumerate(proto.graph.node) if request.excludes(node)}
    found |= unable(proto, narrow, known)
    return found | half_limits.layers_of(proto, found)


def _peaks(proto: Any, known: dict[str, int], request: Request) -> dict[str, float]:
    """The largest magnitudes of what the float32 graph computes on the calibration samples."""
    peaks = half_limits.Peaks()
    if request.calibration is not None:
        names = tuple(name for node in proto.graph.node for name in node.output if known.get(name) == FLOAT)
        with probed(request.model, proto, request.workdir, names) as tensors:
            for feed in request.feeds():
                peaks.add(feed | tensors(feed))
    return peaks.largest


def _masks(count: int, narrow: Narrow) -> tuple[Note, ...]:
    if not count:
        return ()
    text = f"{count} constants that stand for infinity, as in masks, made small enough that {narrow.name} adds to them"
    return (Note(text),)


def _reasons(proto: Any, keep: dict[int, str]) -> tuple[Note, ...]:
    counts = Counter((proto.graph.node[place].op_type, why) for place, why in keep.items())
    return tuple(Note(f"{count} x {kind} kept in float32: {why}") for (kind, why), count in counts.items())
