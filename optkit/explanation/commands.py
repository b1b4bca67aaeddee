"""Commands to paste that quantize a baseline like a candidate, with something changed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from optkit.formats.model import Model
from optkit.measurement.candidate import Candidate
from optkit.targets.table import DEFAULT
from optkit.targets.target import target

_METHODS = (("dynamic", "dynamic"), ("QDQ", "static"), ("static", "static"), ("weight-only", "weight-only"))


def quantize(
    source: Model,
    candidate: Candidate,
    quantized: str | None,
    *,
    data: str | None,
    calibration: str | None = None,
    exclude: Sequence[str] = (),
    method: str | None = None,
    options: Sequence[str] = (),
) -> str | None:
    """Return a command that quantizes ``source`` for the candidate's target, by the candidate's method or ``method``.

    ``quantized`` describes the candidate's quantization. ``None`` if ``source`` has a format that cannot be quantized.
    """
    if source.format not in ("onnx", "openvino"):
        return None
    made_by = method or method_of(quantized or "")
    suffix = target(candidate.target).precisions.suffix
    output = candidate.model.path.with_suffix("").name + ("-mixed" if exclude else "-again") + suffix
    words = ["optkit", "quantize", str(source.path), *_types(quantized or "", candidate.target)]
    words += ["--target", candidate.target] if candidate.target != DEFAULT else []
    words += ["--method", made_by] if made_by else []
    if made_by in (None, "static"):
        words += ["--data", data or "DATA"]
        words += ["--calibration", calibration] if calibration else []
    for name in exclude:
        words += ["--exclude", name]
    return shlex.join([*words, *options, "-o", output])


def _types(quantized: str, name: str) -> list[str]:
    eight, floats = "--fp8" if "float8" in quantized else "--int8", target(name).precisions.floats
    halves = {"bfloat16": "bf16", "float16": "fp16"}
    between = [half for dtype, half in halves.items() if half in floats and f" {dtype} between" in quantized]
    return [eight, *(f"--{half}" for half in between)]


def method_of(quantized: str) -> str | None:
    """Return the method of ``quantize`` that made a quantization with this description."""
    return next((method for start, method in _METHODS if quantized.startswith(start)), None)
