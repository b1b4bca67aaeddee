"""Static INT8 with neural-compressor: a PyTorch model calibrated with PT2E's observers, exported to ONNX as Q/DQ."""

from __future__ import annotations

from typing import Any

import numpy as np

from optkit import lazy
from optkit.formats.onnx import graph, nodes
from optkit.formats.onnx.nodes import count_operators
from optkit.formats.tensors import Array, Signature
from optkit.formats.torch import loading, onnx_export
from optkit.formats.torch.outputs import input_tensors
from optkit.notes import Note
from optkit.quantization import embeddings
from optkit.quantization.quantizer import Quantized, Request, quantizing
from optkit.system import fingerprint, native

_OPSET = 18
"""The opset that torch's exporter writes."""
_ALGORITHMS = {"minmax": "minmax", "entropy": "kl"}
"""Calibration method -> the engine's name of it."""
_FLOAT = {"w_dtype": "fp32", "act_dtype": "fp32"}


@quantizing(calibrations=("minmax", "entropy"))
def quantize(request: Request) -> Quantized:
    """Quantize Conv and Linear. Raises StageError where torch or the engine fails."""
    engine = _engine()
    signature = request.model.signature or Signature(())
    with onnx_export.in_one_line(request.model.path):
        loaded = loading.load(request.model)
        real = next(request.feeds(), None)
        example = onnx_export.example(loaded, signature, real, name=str(request.model.path))
        captured, limits = onnx_export.captured(loaded, example, signature)
        converted = _calibrated(engine, captured, request)
        proto, _ = onnx_export.by_program(converted, example, signature, _OPSET)
    _weights_as_integers(proto)
    tables = embeddings.quantize(proto, request)
    path = request.workdir / "model.onnx"
    graph.save(proto, path)
    notes = tuple(Note(f"is {limit}, as in the model", dim) for dim, limit in limits.notes.items())
    pairs = count_operators(proto).get("QuantizeLinear", 0)
    facts = {"quantizers": pairs, "calibrate": request.options.calibrate}
    return Quantized(path, notes=(*notes, *tables, *_placement()), facts=facts)


def _engine() -> Any:
    with native.silent():
        lazy.require("accelerate", extra="neural-compressor")
        return lazy.require("neural_compressor.torch.quantization", extra="neural-compressor")


def _calibrated(engine: Any, captured: Any, request: Request) -> Any:
    """Return the captured module with integers in it, weights stored as such."""
    import torch

    captured._exported, captured.dynamic_shapes = True, None  # how the engine knows what its own export captured
    config = engine.StaticQuantConfig(
        act_algo=_ALGORITHMS[request.options.calibrate],
        w_granularity="per_channel" if request.options.per_channel else "per_tensor",
    )
    for name in request.options.exclude:
        config.set_local(name, engine.StaticQuantConfig(**_FLOAT))
    with request.engine.running():
        observed = engine.prepare(captured, config)
    inputs = request.model.signature.inputs if request.model.signature else ()
    for feed in request.feeds():
        with request.engine.running(), torch.no_grad():
            observed(*input_tensors(feed, inputs))
    with request.engine.running():
        return engine.convert(observed)


def _weights_as_integers(proto: Any) -> None:
    """Quantize constants in place: the engine leaves weights in float, to be quantized at every run."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    kept = []
    for node in proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "Clip") or any(name not in constants for name in node.input):
            kept.append(node)
            continue
        inputs = [numpy_helper.to_array(constants[name]) for name in node.input]
        values = np.clip(*inputs) if node.op_type == "Clip" else _integers(*inputs, axis=nodes.scales_axis(node))
        constants[node.output[0]] = numpy_helper.from_array(values, node.output[0])
    used = {name for node in kept for name in node.input} | {value.name for value in proto.graph.output}
    _replace(proto.graph.node, kept)
    _replace(proto.graph.initializer, [tensor for name, tensor in constants.items() if name in used])


def _integers(values: Array, scale: Array, zero: Array, *, axis: int) -> Array:
    """ONNX's QuantizeLinear."""
    shape = [-1 if place == axis % values.ndim else 1 for place in range(values.ndim)] if scale.ndim else []
    limits = np.iinfo(zero.dtype)
    rounded = np.rint(values / scale.reshape(shape)) + zero.reshape(shape)
    return np.asarray(np.clip(rounded, limits.min, limits.max), zero.dtype)


def _replace(repeated: Any, items: list[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del repeated[:]
    repeated.extend(copies)


def _placement() -> tuple[Note, ...]:
    """Return notes on the effect of the engine's scheme on targets."""
    note = Note(
        "what is added to a residual stays in float: openvino has integer kernels that do that, onnxruntime has none"
    )
    if not fingerprint.saturates():
        return (note,)
    text = "this CPU has no VNNI, and 8-bit sums saturate on onnxruntime: expect a loss there; --engine auto avoids it"
    return note, Note(text, level="warning")
