"""FP16 and BF16 for TensorRT: types in the graph itself, as strongly typed networks take their precision from there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from optkit import graph, narrowlimits, narrowproof
from optkit.errors import StageError
from optkit.narrowing import BFLOAT16, FLOAT, FLOAT16, Narrow, dtypes, narrowed, unable
from optkit.probing import probed
from optkit.quantizer import Quantized, Request, prepared
from optkit.stage import Note

_MOST_SAMPLES = 32
"""Every tensor of each is looked at: ranges settle soon, and a margin is for the rest."""
_ASKED_FOR = "asked for with exclude"


def quantize(request: Request) -> Quantized:
    """Write the graph in 16 bits, but for what they cannot hold; with data, ranges are measured and outputs compared.

    Raises StageError where nothing can be narrow, or an output would become NaN or infinite, and TargetError where the
    CPU cannot run what is to be measured.
    """
    narrow = FLOAT16 if request.bits == 16 else BFLOAT16
    ready = prepared(request.model)
    proto, known = ready.proto, dtypes(ready.proto)
    notes = (*ready.notes, *request.unknown(proto), *_masks(narrowlimits.shrink_masks(proto, narrow), narrow))
    samples = request.calibration.take(_MOST_SAMPLES) if request.calibration else None
    keep = _kept(proto, narrow, known, replace(request, calibration=samples))
    with request.engine.running():
        made = narrowed(proto, narrow, keep, known)
    if not made.tensors:
        raise StageError(
            f"{request.model.path}: nothing in it can be {narrow.name}",
            hint="exclude fewer; optkit inspect shows the model's operators",
        )
    notes += _reasons(proto, keep)
    if samples is None:
        text = "without data, neither are ranges known nor outputs compared: give --data"
        notes += (Note(text, level="warning"),)
    else:
        notes += narrowproof.compare(request.model, proto, made, narrow, samples, request.workdir)
    path = request.workdir / "model.onnx"
    graph.save(made.proto, path)
    return Quantized(path, notes=notes, facts={"kept_in_float32": len(keep)})


def _kept(proto: Any, narrow: Narrow, known: dict[str, int], request: Request) -> dict[int, str]:
    """The nodes that stay float32, by their place in the main graph, and why."""
    found = narrowlimits.delicate(proto, known)
    if narrow is FLOAT16:
        computed = _peaks(proto, known, request)
        found |= narrowlimits.beyond(proto, narrow, narrowlimits.weights(proto), computed)
    found |= {place: _ASKED_FOR for place, node in enumerate(proto.graph.node) if request.excludes(node)}
    return found | unable(proto, narrow, known)


def _peaks(proto: Any, known: dict[str, int], request: Request) -> dict[str, float]:
    """The largest magnitudes of what the float32 graph computes on the calibration samples."""
    peaks = narrowlimits.Peaks()
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
