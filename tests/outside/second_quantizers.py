"""The quantizers of ``second``: weights rounded in place."""

import numpy as np
import onnx
from onnx import numpy_helper

from optkit.notes import Note
from optkit.quantization.quantizer import Quantized, Request, quantizing


@quantizing(calibrations=("minmax",))
def static(request: Request) -> Quantized:
    """Round weights to 256 steps, and look at the calibration data as if it mattered."""
    seen = sum(len(feed["x"]) for feed in request.feeds())
    path = _rounded(request, 127.0, "rounded")
    return Quantized(path, {"workers": 1}, (Note(f"{seen} samples seen by {request.options.calibrate}"),))


@quantizing()
def shorten(request: Request) -> Quantized:
    """Round weights to half precision."""
    return Quantized(_rounded(request, 1024.0, "shortened"))


def _rounded(request: Request, steps: float, name: str):
    proto = onnx.load(request.model.path)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((np.rint(values * steps) / steps).astype(np.float32), tensor.name))
    proto.doc_string = name
    path = request.workdir / "model.onnx"
    onnx.save(proto, path)
    return path
