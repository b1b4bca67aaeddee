"""ONNX graphs: read with care for where their data lies, walked whole, brought to a state that stages can work on."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from optkit.errors import ModelError, OutputError
from optkit.formats.onnx.nodes import DEFAULT_DOMAINS, graphs, tensors, walk
from optkit.formats.tensors import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx


OPSET = 17
"""The opset that stages work on: per-channel DequantizeLinear needs 13, LayerNormalization is one operator from 17."""
OLDEST_OPSET = 9
EMBEDDED_LIMIT = 2_000_000_000
"""Bytes of weights from which on a model keeps them in a file beside it: protobuf ends at 2 GiB."""
_NAMELESS = ("", "?", "-1", "None", "*")
"""What exporters write for a dynamic dimension without a name; two of them need not be of one size."""
_IR_VERSION = 8
"""What belongs to opset 17; from 4 on initializers need not be inputs too."""


def load(path: Path) -> onnx.ModelProto:
    """The model with its external data. Raises ModelError, also for external data outside the model's folder."""
    from onnx.external_data_helper import load_external_data_for_model

    proto = parse(path)
    if external_files(proto, path):
        load_external_data_for_model(proto, str(path.parent.resolve()))
    return proto


def parse(path: Path) -> onnx.ModelProto:
    """The model without its external data. Raises ModelError for a file that is no whole ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise ModelError(f"{path}: a damaged or truncated ONNX file", hint="copy or export it again") from None
    whole = proto.opset_import and proto.HasField("graph") and proto.graph.output
    if not whole or not all(isinstance(node.op_type, str) for node in walk(proto)):  # damaged text comes as bytes
        raise ModelError(
            f"{path}: a damaged or truncated ONNX file: it holds no valid graph", hint="copy or export it again"
        )
    if opset_of(proto) < OLDEST_OPSET:
        raise ModelError(
            f"{path}: opset {opset_of(proto)}; the oldest that optkit opens is {OLDEST_OPSET}",
            hint="export it again with opset_version=17",
        )
    return proto


def save(proto: onnx.ModelProto, path: Path, *, embedded_limit: int = EMBEDDED_LIMIT) -> None:
    """Write the model to ``path`` in one step.

    Past ``embedded_limit`` bytes its weights go to ``path.data`` beside it, and leave ``proto``. Raises OutputError
    where nothing can be written.
    """
    from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".optkit-") as folder:
            data = Path(folder) / f"{path.name}.data"
            if weight_bytes(proto) > embedded_limit:
                convert_model_to_external_data(proto, location=data.name, size_threshold=1024)
                proto = write_external_data_tensors(proto, folder)
                data.replace(path.parent / data.name)
            model = Path(folder) / path.name
            model.write_bytes(proto.SerializeToString())
            model.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None


def external_files(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The files beside ``path`` that hold tensors. Raises ModelError for one that is missing, short or elsewhere."""
    found: dict[str, Path] = {}
    for tensor in tensors(proto):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location != tensor.EXTERNAL:
            continue
        name = entries.get("location", "")
        if name not in found:
            found[name] = _beside(path, name, tensor.name)
        _check_extent(path, found[name], entries, tensor)
    return tuple(found[name] for name in sorted(found))


def _beside(path: Path, name: str, tensor: str) -> Path:
    relative, file = PurePosixPath(name), path.parent / name
    outside = relative.is_absolute() or ".." in relative.parts or "\\" in name or not name
    if outside or not file.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(
            f"{path}: the external data of {tensor!r} lies outside the model's folder: {name!r}",
            hint="only files beside the model are read; save it again with its data beside it",
        )
    if not file.is_file():
        raise ModelError(f"{file}: missing; {path.name} keeps its weights there", hint="copy it beside the model")
    return file


def _check_extent(path: Path, file: Path, entries: dict[str, str], tensor: onnx.TensorProto) -> None:
    try:
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    except ValueError:
        raise ModelError(f"{path}: the external data of {tensor.name!r} has no valid offset and length") from None
    if end > file.stat().st_size or end < 0:
        raise ModelError(f"{file}: truncated; the data of {tensor.name!r} ends at byte {end}", hint="copy it again")


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses."""
    return max((entry.version for entry in proto.opset_import if entry.domain in DEFAULT_DOMAINS), default=OPSET)


def opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """The versions of all operator sets, by domain."""
    return {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Bytes that the tensors take in the model's file, about."""
    return sum(tensor.ByteSize() for tensor in tensors(proto))


def signature(proto: onnx.ModelProto) -> Signature:
    """Inputs (without those that initializers fill) and outputs. A nameless first dimension is called ``batch``."""
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
    """Give nameless dynamic dimensions of inputs and outputs the names that ``signature`` shows, in place; others lose
    what stands for a name. Whether anything changed: Paddle calls all of them ``?``, which is one size to TensorRT.
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
    """``onnx.TensorProto.FLOAT`` -> ``float32``; types that numpy does not have keep ONNX's name (``int4``)."""
    import onnx

    names = {"float": "float32", "double": "float64"}
    known = elem_type in onnx.TensorProto.DataType.values() and elem_type != onnx.TensorProto.UNDEFINED
    name = onnx.TensorProto.DataType.Name(elem_type).lower() if known else "unknown"
    return names.get(name, name)


def upgrade(proto: onnx.ModelProto, opset: int = OPSET) -> tuple[onnx.ModelProto, bool]:
    """The model at ``opset`` or later, and whether that changed it.

    A model that cannot be converted comes back as it was: compare ``graph.opset_of`` with what was asked for.
    """
    if opset_of(proto) >= opset:
        return proto, False
    converted = _converted(proto, opset)
    return (proto, False) if converted is None else (converted, True)


def _converted(proto: onnx.ModelProto, opset: int) -> Any:
    import onnx
    from onnx import checker, version_converter

    if weight_bytes(proto) > EMBEDDED_LIMIT:
        return None
    source = onnx.ModelProto()
    source.CopyFrom(proto)
    source.ir_version = max(source.ir_version, _IR_VERSION)
    _keep_initializers_from_inputs(source)
    try:
        converted = version_converter.convert_version(source, opset)
        checker.check_model(converted)
    except Exception:  # noqa: BLE001  the converter raises whatever its C++ raises; the model stays as it is
        return None
    return converted


def _keep_initializers_from_inputs(proto: onnx.ModelProto) -> None:
    """Before IR version 4 every initializer had to be an input too; runtimes take those for variables."""
    filled = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in filled]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def constants_to_initializers(proto: onnx.ModelProto) -> int:
    """Turn ``Constant`` nodes with a tensor into initializers of the graph that they are in, in place; how many."""
    return sum(_constants_to_initializers(graph) for graph in graphs(proto))


def _constants_to_initializers(graph: onnx.GraphProto) -> int:
    returned = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        tensor = None if node.output[:1] and node.output[0] in returned else _constant(node)
        if tensor is None:
            kept.append(node)
            continue
        added = graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = node.output[0]
    moved = len(graph.node) - len(kept)
    if moved:
        del graph.node[:]
        graph.node.extend(kept)
    return moved


def _constant(node: onnx.NodeProto) -> Any:
    """The tensor of a ``Constant`` node; ``None`` for other nodes and for strings and sparse values."""
    import numpy as np
    from onnx import helper, numpy_helper

    if node.op_type != "Constant" or node.domain not in DEFAULT_DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    dtypes = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    if attribute.name not in dtypes:
        return None
    return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), dtypes[attribute.name]))


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that ONNX can infer; as it was where inference fails or the model is too large."""
    from onnx import shape_inference

    if weight_bytes(proto) > EMBEDDED_LIMIT:
        return proto
    try:
        return shape_inference.infer_shapes(proto, data_prop=True)
    except shape_inference.InferenceError:
        return proto


def quantized(proto: onnx.ModelProto) -> str | None:
    """How the model is quantized already (``QDQ int8 static``, ``weight-only int4 (MatMulNBits)``); ``None`` if not."""
    names = {node.op_type for node in walk(proto)}
    dynamic = sorted(name for name in names if name.startswith(_DYNAMIC) or name in _INTEGER)
    if "DynamicQuantizeLinear" in names or (dynamic and not names & {"QuantizeLinear"}):
        return f"dynamic int8 ({', '.join(dynamic)})"
    if names & _BLOCKS:
        return f"weight-only int{_block_bits(proto)} ({', '.join(sorted(names & _BLOCKS))})"
    static = sorted(name for name in names if name.startswith("QLinear") or name in _STATIC)
    if static:
        return f"static int8 ({', '.join(static)})"
    if "DequantizeLinear" not in names:
        return "float16" if _mostly_half(proto) else None
    kind = _dequantized(proto) or "int8"
    if "QuantizeLinear" not in names:
        return f"weight-only {kind} (DequantizeLinear)"
    between = _between(proto)
    return f"QDQ {kind} static, {between} between" if between else f"QDQ {kind} static"


_DYNAMIC = "DynamicQuantize"
_INTEGER = {"MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "MatMulInteger16"}
_STATIC = {"QGemm", "QAttention", "QEmbedLayerNormalization", "QMoE", "QOrderedMatMul"}
_BLOCKS = {"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}


def _block_bits(proto: onnx.ModelProto) -> int:
    bits = (item.i for node in walk(proto) for item in node.attribute if item.name == "bits")
    return max(bits, default=4)


def _dequantized(proto: onnx.ModelProto) -> str | None:
    """The most frequent dtype of weights that a ``DequantizeLinear`` turns into floats."""
    sources = {node.input[0] for node in walk(proto) if node.op_type == "DequantizeLinear"}
    constants = {node.output[0]: node.attribute[0].t for node in walk(proto) if _constant(node) is not None}
    stored = {tensor.name: tensor for graph in graphs(proto) for tensor in graph.initializer}
    kinds = Counter(dtype_name(t.data_type) for name, t in (constants | stored).items() if name in sources)
    kinds.pop("int32", None)  # biases
    return kinds.most_common(1)[0][0] if kinds else None


def _between(proto: onnx.ModelProto) -> str | None:
    """The narrow type that pairs make of integers, by their scales."""
    scales = {name for node in walk(proto) if node.op_type == "DequantizeLinear" for name in node.input[1:2]}
    kinds = {dtype_name(each.data_type) for graph in graphs(proto) for each in graph.initializer if each.name in scales}
    return next(iter(sorted(kinds & {"float16", "bfloat16"})), None)


def _mostly_half(proto: onnx.ModelProto) -> bool:
    counts = Counter[str]()
    for tensor in tensors(proto):
        counts[dtype_name(tensor.data_type)] += math.prod(tensor.dims)
    return counts["float16"] > counts["float32"] + counts["float64"] + counts["bfloat16"]
