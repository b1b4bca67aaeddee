"""Conversion of a float32 graph to 16 bits: range analysis, cast insertion, and verification on samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from optkit.data.dataset import Dataset
from optkit.errors import StageError
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.formats.onnx.upgrade import upgrade
from optkit.notes import Note
from optkit.quantization.half import limits as half_limits
from optkit.quantization.half.cast import FLOAT16, HALF_TYPES, CastOperator, FloatGraph, HalfType, insert_casts
from optkit.quantization.half.limits import PAIRS
from optkit.quantization.half.verify import Conversion, probe
from optkit.quantization.quantizer import Request

_FILE = "model.onnx"
_MOST_SAMPLES = 32
"""Every tensor of each is examined: ranges settle soon, and a margin is for the other samples."""
_SCALED_OPSET = 19
"""The first opset with Q/DQ around float16."""
_ASKED_FOR = "asked for with exclude"


def save_in_half(request: Request, proto: Any) -> tuple[Path, tuple[Note, ...], dict[str, Any]]:
    """Write a quantized graph, with its float operators in ``options.floats``; return its path, notes and facts.

    ``request.options.exclude`` keeps layers from 8 bits, not from 16. Raises as ``convert`` does.
    """
    if request.options.floats in HALF_TYPES:
        path, notes, facts = convert_to_half(
            replace(request, options=request.options.model_copy(update={"exclude": ()})),
            proto,
            types=f"8 bits and {request.options.floats}",
        )
        return path, notes, {"floats": request.options.floats} | facts
    path = request.workdir / _FILE
    graph.save(proto, path)
    return path, (), {}


def convert_to_half(request: Request, proto: Any, *, types: str) -> tuple[Path, tuple[Note, ...], dict[str, Any]]:
    """Write a graph of the request's model in the 16 bits of ``options.floats``; return its path, notes and facts.

    ``proto`` itself is changed. With data, ranges are measured and the outputs compared with the model's; ``types``
    names the types of the result for the user. Raises StageError where no operator can be 16-bit, or an output would
    become NaN or infinite, and TargetError where onnxruntime cannot run the graphs on the CPU.
    """
    half = HALF_TYPES[request.options.floats]
    if half is FLOAT16 and any(node.op_type in PAIRS for node in walk(proto)):
        proto = _with_half_pairs(proto, request)
        half_limits.raise_scales(proto)
    notes = _masks(half_limits.shrink_masks(proto, half), half)
    before = FloatGraph(proto, half)
    samples = request.calibration.take(_MOST_SAMPLES) if request.calibration else None
    kept = _kept(before, request, samples)
    with request.engine.running():
        after = insert_casts(before, kept)
    if not after.tensors:
        raise _nothing_to_convert(request, half, kept)
    notes += _reasons(kept)
    if samples is None:
        notes += (Note("without data, ranges are not measured and outputs not compared: give --data", level="warning"),)
    else:
        notes += Conversion(request.model, proto, after, types).verify(samples, request.workdir)
    path = request.workdir / _FILE
    graph.save(after.proto, path)
    return path, notes, {"kept_in_float32": len(kept)}


def _with_half_pairs(proto: Any, request: Request) -> Any:
    """Return the graph at an opset whose Q/DQ take float16; runtimes with bfloat16 do not ask for a node's version."""
    proto, _ = upgrade(proto, _SCALED_OPSET)
    if graph.opset_of(proto) < _SCALED_OPSET:
        raise StageError(
            f"{request.model.path}: Q/DQ in float16 need opset {_SCALED_OPSET}, to which this graph cannot be upgraded",
            hint="--bf16 instead of --fp16",
        )
    return proto


def _nothing_to_convert(request: Request, half: HalfType, kept: dict[CastOperator, str]) -> StageError:
    why = Counter(kept.values()).most_common(1)
    most = f"; most frequent reason: {why[0][0]}" if why else ""
    return StageError(
        f"{request.model.path}: no operator of it can be {half.name}{most}",
        hint="optkit inspect shows the model's operators",
    )


def _kept(before: FloatGraph, request: Request, samples: Dataset | None) -> dict[CastOperator, str]:
    """Return the operators that stay float32, with the reason."""
    found = half_limits.sensitive(before)
    if before.half is FLOAT16:
        measured = _peaks(before, replace(request, calibration=samples))
        found |= half_limits.out_of_range(before, measured)
    found |= {each: _ASKED_FOR for each in before.operators if request.excludes(each.node)}
    found |= half_limits.unsupported(before)
    return found | half_limits.in_kernels_of(before, found)


def _peaks(before: FloatGraph, request: Request) -> dict[str, float]:
    """Return the largest magnitudes of the float32 graph's tensors on the calibration samples."""
    peaks = half_limits.Peaks()
    if request.calibration is not None:
        names = tuple(filter(before.is_float, before.producers))
        with probe(request.model, before.proto, request.workdir, names) as tensors:
            for feed in request.feeds():
                peaks.add(feed | tensors(feed))
    return peaks.largest


def _masks(count: int, half: HalfType) -> tuple[Note, ...]:
    if not count:
        return ()
    text = f"{count} constants that stand for infinity, as in masks, made small enough that sums stay in {half.name}"
    return (Note(text),)


def _reasons(kept: dict[CastOperator, str]) -> tuple[Note, ...]:
    counts = Counter((operator.node.op_type, why) for operator, why in kept.items())
    return tuple(Note(f"{count} x {kind} kept in float32: {why}") for (kind, why), count in counts.items())
