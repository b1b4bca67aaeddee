"""Inputs and outputs of a graph, with names for dynamic dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optkit.formats.tensors import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
from optkit.formats.onnx.graph import EMBEDDED_LIMIT, weight_bytes

_NAMELESS = ("", "?", "-1", "None", "*")
"""Names that exporters write for a nameless dynamic dimension; two of them need not be equal."""


def read_signature(proto: onnx.ModelProto) -> Signature:
    """Return inputs (without initializers) and outputs. A nameless first dimension is called ``batch``."""
    filled = {tensor.name for tensor in proto.graph.initializer}
    filled |= {sparse.values.name for sparse in proto.graph.sparse_initializer}
    return Signature(
        tuple(_spec(value) for value in proto.graph.input if value.name not in filled),
        tuple(_spec(value) for value in proto.graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, value.type.WhichOneof("value") or "unknown", None)
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return TensorSpec(value.name, dtype_name(kind.elem_type), None)
    dims = tuple(_dim(dim, value.name, axis) for axis, dim in enumerate(kind.shape.dim))
    return TensorSpec(value.name, dtype_name(kind.elem_type), dims)


def _dim(dim: onnx.TensorShapeProto.Dimension, name: str, axis: int) -> Dim:
    if dim.dim_value > 0:  # some exporters write -1 or 0 for a dynamic dimension
        return int(dim.dim_value)
    named = dim.dim_param not in _NAMELESS
    return dim.dim_param if named else "batch" if axis == 0 else f"{name}_{axis}"


def name_dimensions(proto: onnx.ModelProto) -> bool:
    """Name nameless dynamic dimensions of inputs and outputs as ``signature`` does, in place; unmark inner ones.

    Paddle calls all of them ``?``, which is one size to TensorRT. True if anything changed.
    """
    changed = False
    for values, named in (((*proto.graph.input, *proto.graph.output), True), (proto.graph.value_info, False)):
        for value in values:
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.dim_value > 0 or not dim.dim_param or dim.dim_param not in _NAMELESS:
                    continue
                dim.dim_param = str(_dim(dim, value.name, axis)) if named else ""
                changed = True
    return changed


def dtype_name(elem_type: int) -> str:
    """Name a dtype: ``onnx.TensorProto.FLOAT`` -> ``float32``; types unknown to numpy keep ONNX's name (``int4``)."""
    import onnx

    names = {"float": "float32", "double": "float64"}
    known = elem_type in onnx.TensorProto.DataType.values() and elem_type != onnx.TensorProto.UNDEFINED
    name = onnx.TensorProto.DataType.Name(elem_type).lower() if known else "unknown"
    return names.get(name, name)


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Add inferred shapes to the model; return it as it is if inference fails or the model is too large."""
    from onnx import shape_inference

    if weight_bytes(proto) > EMBEDDED_LIMIT:
        return proto
    try:
        return shape_inference.infer_shapes(proto, data_prop=True)
    except shape_inference.InferenceError:
        return proto
