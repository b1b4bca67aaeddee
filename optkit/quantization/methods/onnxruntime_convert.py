"""FP16 with ONNX Runtime: weights and operators in half precision, inputs and outputs as they were."""

from __future__ import annotations

import warnings

from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.formats.onnx.signature import infer_shapes
from optkit.notes import Note
from optkit.quantization.preparation import prepared
from optkit.quantization.quantizer import Quantized, Request, quantizing

_CPU = Note(
    "FP16 halves the file; on a CPU onnxruntime casts to float32 and back, so it is hardly ever faster there",
    level="warning",
)


@quantizing()
def quantize(request: Request) -> Quantized:
    """Convert to float16; operators that overflow or have no half kernel keep float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    ready = prepared(request.model)
    proto, notes = infer_shapes(ready.proto), ready.notes
    blocked = [*DEFAULT_OP_BLOCK_LIST, *request.options.exclude]
    with request.engine.running(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one line per weight below the smallest half, which becomes zero
        converted = convert_float_to_float16(
            proto, keep_io_types=True, op_block_list=blocked, node_block_list=list(request.options.exclude)
        )
    path = request.workdir / "model.onnx"
    graph.save(converted, path)
    left = sorted({node.op_type for node in walk(converted)} & set(blocked))
    kept = (Note(f"kept in float32, having no half kernel: {', '.join(left)}"),) if left else ()
    return Quantized(path, notes=(*notes, *kept, _CPU))
