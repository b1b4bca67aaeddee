"""FP16 and bf16 with OpenVINO: FP16 is how weights are stored, bf16 is how the CPU computes."""

from __future__ import annotations

from optkit.errors import UsageError
from optkit.formats.openvino import stable_names
from optkit.notes import Note
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.system import fingerprint


@quantizing()
def quantize(request: Request) -> Quantized:
    """Write the IR. Raises UsageError for bf16 on a CPU without it."""
    half = request.bits == 16
    if not half and not fingerprint.computes_bf16():
        raise UsageError("this CPU has no bf16 instructions", hint="optkit doctor shows what it has; --fp16 works")
    path = request.workdir / "model.xml"
    with request.engine.running():
        stable_names.save(stable_names.read(request.model.path), path, half=half)
    if half:
        text = "weights stored in FP16; the CPU computes in float32, so this is a choice of size"
        return Quantized(path, notes=(Note(text),))
    return Quantized(
        path, {"INFERENCE_PRECISION_HINT": "bf16"}, (Note("computes in bf16; the weights on disk stay float32"),)
    )
