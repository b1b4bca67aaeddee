"""Weight-only INT8 and INT4 with NNCF for OpenVINO: smaller files, activations in float; needs no data."""

from __future__ import annotations

from optkit import lazy
from optkit.errors import StageError
from optkit.formats.openvino import stable_names
from optkit.notes import Note
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.system import native

_GROUP = 32
"""Weights that share a scale in INT4: as in the other engine, the smallest common group."""


@quantizing()
def quantize(request: Request) -> Quantized:
    """Compress constant weights. Raises StageError where NNCF finds none or fails."""
    with native.silent():
        nncf = lazy.require("nncf", extra="openvino")
        graph = stable_names.read(request.model.path)
        modes = nncf.CompressWeightsMode
        ignored = nncf.IgnoredScope(names=list(request.options.exclude), validate=False)
        if request.bits == 4:
            options = {"mode": modes.INT4_SYM, "group_size": _GROUP, "all_layers": False}
        else:
            options = {"mode": modes.INT8_ASYM}
        with request.engine.running():
            compressed = nncf.compress_weights(graph, ignored_scope=ignored, **options)
    kinds = [
        operation.get_element_type().get_type_name() for operation in compressed.get_ops() if _is_constant(operation)
    ]
    done = sum(kind in ("i4", "u4", "i8", "u8") for kind in kinds)
    if not done:
        raise StageError(f"{request.model.path}: nncf found no weights to compress")
    path = request.workdir / "model.xml"
    stable_names.save(compressed, path)
    return Quantized(path, notes=(Note(f"weights in INT{request.bits} where they are constant; activations in float"),))


def _is_constant(operation: object) -> bool:
    return type(operation).__name__ == "Constant" or getattr(operation, "get_type_name", str)() == "Constant"
