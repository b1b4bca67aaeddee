"""The contents of a model of any format: operators, weights by dtype, zeros among them, quantization."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optkit.errors import ModelError
from optkit.formats import tensorrt_engine
from optkit.formats.model import Model
from optkit.notes import Note

_COUNTERS = ("int64", "uint64", "bool", "string")
"""Dtypes of shapes, axes and indices rather than weights."""
_WITH_ZEROS = ("float32", "float64", "float16", "int8", "uint8")


@dataclass(frozen=True)
class Contents:
    """The contents of a model; ``precisions`` counts weights by dtype, ``sparsity`` is the share of zeros in them."""

    operators: dict[str, int]
    precisions: dict[str, int]
    sparsity: float | None = None
    quantized: str | None = None
    opsets: dict[str, int] = field(default_factory=dict)
    producer: str | None = None
    notes: tuple[Note, ...] = ()


class _Tally:
    """Counts weights; zeros in matrices and kernels only, as a fresh bias is all zeros."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._zeros = 0
        self._seen = 0

    def add(self, dtype: str, shape: tuple[int, ...], values: Any = None) -> None:
        """Count one tensor; ``values`` are its numbers where they can be read as an array."""
        if dtype in _COUNTERS:
            return
        self._counts[dtype] += math.prod(shape)
        if values is not None and len(shape) > 1:
            self._seen += values.size
            self._zeros += values.size - int(np.count_nonzero(values))

    @property
    def precisions(self) -> dict[str, int]:
        return {dtype: count for dtype, count in self._counts.most_common() if count}

    @property
    def sparsity(self) -> float | None:
        return self._zeros / self._seen if self._seen else None


def of(model: Model) -> Contents:
    """Return the contents of ``model``. Raises ModelError, UntrustedError."""
    if model.format == "onnx":
        return _onnx(model)
    if model.format == "openvino":
        return _openvino(model)
    if model.format == "tensorrt":
        return _engine(model)
    return _torch(model)


def _engine(model: Model) -> Contents:
    """Return the contents of an engine's header: its layers are known only where it can be loaded."""
    with model.path.open("rb") as stream:
        header = tensorrt_engine.header(stream.read(tensorrt_engine.HEADER_BYTES))
    if header is None or header.version is None:
        return Contents({}, {}, producer="TensorRT")
    producer = f"TensorRT-RTX {header.version}, for compute capability {', '.join(header.capabilities)}"
    return Contents({}, {}, producer=producer)


def _onnx(model: Model) -> Contents:
    from optkit.formats.onnx import graph
    from optkit.formats.onnx.nodes import count_operators, walk_tensors
    from optkit.formats.onnx.quantized import quantization_scheme
    from optkit.formats.onnx.signature import dtype_name

    proto, tally = graph.load(model.path), _Tally()
    for tensor in walk_tensors(proto):
        dtype = dtype_name(tensor.data_type)
        tally.add(dtype, tuple(tensor.dims), _array(tensor, model) if dtype in _WITH_ZEROS else None)
    return Contents(
        operators=count_operators(proto),
        precisions=tally.precisions,
        sparsity=tally.sparsity,
        quantized=quantization_scheme(proto),
        opsets=graph.opsets(proto),
        producer=f"{proto.producer_name} {proto.producer_version}".strip() or None,
        notes=tuple(_onnx_notes(proto)),
    )


def _array(tensor: Any, model: Model) -> Any:
    from onnx import numpy_helper

    try:
        return numpy_helper.to_array(tensor)
    except ValueError as error:
        raise ModelError(f"{model.path}: a damaged ONNX file: the tensor {tensor.name!r}: {error}") from None


def _onnx_notes(proto: Any) -> Iterator[Note]:
    from optkit.formats.onnx import graph
    from optkit.formats.onnx.nodes import count_operators

    constants = count_operators(proto).get("Constant", 0)
    if constants > len(proto.graph.initializer):
        yield Note(f"weights are in {constants} Constant nodes; stages turn them into initializers first")
    if graph.opset_of(proto) < graph.OPSET:
        yield Note(f"opset {graph.opset_of(proto)}: stages convert it to {graph.OPSET} first, where ONNX can")


def _openvino(model: Model) -> Contents:
    from optkit.formats.openvino import ir

    root, tally = ir.read(model.path), _Tally()
    weights = ir.weights_of(model.path)
    for dtype, shape, offset in ir.constants(root):
        values = None
        if dtype in _WITH_ZEROS and 0 not in shape:
            values = np.memmap(weights, dtype, "r", offset=offset, shape=shape or (1,))
        tally.add(dtype, shape, values)
    return Contents(
        operators=ir.operators(root),
        precisions=tally.precisions,
        sparsity=tally.sparsity,
        quantized=ir.quantized(root),
        producer=ir.producer(root),
    )


def _torch(model: Model) -> Contents:
    from optkit.formats.torch import loading

    half = model.format == "state-dict" and model.code is None
    loaded = None if half else loading.load(model)
    tally = _torch_tally(loading.state_dict(model) if loaded is None else _state(loaded))
    note = Note("a state dict alone: --code FILE.py:CALLABLE adds the module's layers and what targets say")
    return Contents(
        operators={} if loaded is None else _layers(loaded, model.format),
        precisions=tally.precisions,
        sparsity=tally.sparsity,
        quantized=_torch_quantized(tally.precisions),
        notes=(note,) if half else (),
    )


def _state(loaded: Any) -> Mapping[str, Any]:
    """Return all tensors of a module, or of an exported program, whose state is a property."""
    state = loaded.state_dict
    return state() if callable(state) else {**state, **loaded.constants}


def _torch_tally(state: Mapping[str, Any]) -> _Tally:
    """Count each storage once: tied weights have two names and one set of numbers."""
    import torch

    tally, seen = _Tally(), set[tuple[int, torch.Size]]()
    for tensor in state.values():
        if not isinstance(tensor, torch.Tensor) or (tensor.data_ptr(), tensor.shape) in seen:
            continue
        seen.add((tensor.data_ptr(), tensor.shape))
        dtype = str(tensor.dtype).removeprefix("torch.")
        plain = dtype in _WITH_ZEROS and tensor.layout is torch.strided
        tally.add(dtype, tuple(tensor.shape), tensor.detach().numpy() if plain else None)
    return tally


def _layers(loaded: Any, format: str) -> dict[str, int]:
    """Layers by class, or a program's operators; the most frequent first."""
    if format == "exported-program":
        names = [str(node.target) for node in loaded.graph.nodes if node.op == "call_function"]
    else:
        leaves = [module for module in loaded.modules() if not any(True for _ in module.children())]
        names = [getattr(module, "original_name", None) or type(module).__name__ for module in leaves]
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _torch_quantized(precisions: Mapping[str, int]) -> str | None:
    small = sum(precisions.get(dtype, 0) for dtype in ("int8", "uint8", "qint8", "quint8"))
    large = precisions.get("float32", 0) + precisions.get("float64", 0)
    if small > large:
        return "int8"
    half = {dtype: precisions.get(dtype, 0) for dtype in ("float16", "bfloat16")}
    most = max(half, key=lambda dtype: half[dtype])
    return most if half[most] > large else None
