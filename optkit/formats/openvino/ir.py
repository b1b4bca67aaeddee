"""OpenVINO IR, read from its XML without OpenVINO. The file may be hostile: no entities, no references outside."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from optkit.errors import ModelError
from optkit.formats.tensors import Dim, Signature, TensorSpec

DTYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "boolean": "bool", "string": "string",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "i4": "int4",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "u4": "uint4", "u1": "uint1",
    "f8e4m3": "float8e4m3", "f8e5m2": "float8e5m2", "nf4": "nf4",
}  # fmt: skip


def weights_of(path: Path) -> Path:
    """Return the path of the weights (``.bin``) of the IR at ``path``."""
    return path.with_suffix(".bin")


def read(path: Path) -> ET.Element:
    """Parse the IR at ``path`` and return its root.

    Raises ModelError for XML that is no IR, and for a missing or truncated ``.bin``.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ModelError(f"{path}: XML with a DOCTYPE; OpenVINO writes none, so it is not read")
        root = ET.fromstring(text)  # noqa: S314  no DOCTYPE, so no entities
        if root.tag != "net" or root.find("layers") is None:
            raise ModelError(f"{path}: XML, but not an OpenVINO model (its root is {root.tag!r}, not 'net')")
        signature(root)
        _check_weights(path, root)
    except ET.ParseError as error:
        raise ModelError(f"{path}: damaged or truncated XML: {error}", hint="convert the model again") from None
    except (KeyError, ValueError, StopIteration):
        raise ModelError(f"{path}: a damaged OpenVINO model; its layers do not fit", hint="convert it again") from None
    return root


def signature(root: ET.Element) -> Signature:
    """Return inputs and outputs. OpenVINO keeps no names of dynamic dimensions; a dynamic first axis is ``batch``."""
    layers = {layer.get("id"): layer for layer in root.iterfind("layers/layer")}
    sources = {edge.get("to-layer"): edge for edge in root.iterfind("edges/edge")}
    inputs = [layer for layer in layers.values() if layer.get("type") == "Parameter"]
    results = [layer for layer in layers.values() if layer.get("type") == "Result"]
    ports = [_source(layer, sources, layers) for layer in results]
    return Signature(
        tuple(_input(layer) for layer in inputs),
        tuple(_output(port, layer) for port, layer in zip(ports, results, strict=True)),
    )


def operators(root: ET.Element) -> dict[str, int]:
    """Count the layers of each operator type, subgraphs included, the most frequent first."""
    kinds = (layer.get("type", "") for layer in root.iter("layer"))
    counts = Counter(kind for kind in kinds if kind not in ("Const", "Parameter", "Result"))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def constants(root: ET.Element) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Iterate over the constants: dtype, shape, and byte offset in the weights file."""
    for layer in root.iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            kind = data.get("element_type", "")
            shape = tuple(int(dim) for dim in data.get("shape", "").split(",") if dim.strip())
            yield DTYPES.get(kind, kind), shape, int(data.get("offset", 0))


def producer(root: ET.Element) -> str | None:
    """Return the OpenVINO version that wrote the model, if it is recorded."""
    version = root.find("rt_info/Runtime_version")
    return None if version is None else f"OpenVINO {version.get('value', '').partition('-')[0]}".strip()


def quantized(root: ET.Element) -> str | None:
    """Return the quantization scheme of the model, such as ``weight-only int8``; ``None`` if it is not quantized."""
    kinds = Counter[str]()
    for dtype, shape, _ in constants(root):
        kinds[dtype] += math.prod(shape)
    if "FakeQuantize" in operators(root) or "FakeConvert" in operators(root):
        return "static int8 (FakeQuantize)"
    small = max(("int4", "uint4", "nf4", "int8", "uint8"), key=lambda kind: kinds[kind])
    if kinds[small] > kinds["float32"] + kinds["float16"] + kinds["bfloat16"]:
        return f"weight-only {small}"
    return "float16" if kinds["float16"] > kinds["float32"] else None


def scheme(root: ET.Element) -> dict[str, str]:
    """Return the quantization parameters that NNCF recorded in the model; empty for models of other origin."""
    return {each.tag: each.get("value", "") for each in root.iterfind("rt_info/nncf/quantization/*")}


def left_alone(root: ET.Element) -> set[str]:
    """Return the names in NNCF's ignored scope: the operations it was told to leave in float."""
    found = root.find("rt_info/nncf/quantization/ignored_scope/names")
    return set() if found is None else set(re.findall(r"'([^']*)'", found.get("value", "")))


def _check_weights(path: Path, root: ET.Element) -> None:
    stored = [data for data in root.iter("data") if data.get("offset") is not None]
    end = max((int(data.get("offset", 0)) + int(data.get("size", 0)) for data in stored), default=0)
    weights = weights_of(path)
    if end and not weights.is_file():
        raise ModelError(f"{weights}: missing; {path.name} keeps its weights there", hint="copy it beside the .xml")
    if end and weights.stat().st_size < end:
        raise ModelError(f"{weights}: truncated; {path.name} needs {end} bytes of it", hint="copy it again")


def _source(
    layer: ET.Element, sources: dict[str | None, ET.Element], layers: dict[str | None, ET.Element]
) -> ET.Element:
    """Return the port that feeds ``layer``, a Result."""
    edge = sources[layer.get("id")]
    ports = layers[edge.get("from-layer")].iterfind("output/port")
    return next(port for port in ports if port.get("id") == edge.get("from-port"))


def _input(layer: ET.Element) -> TensorSpec:
    port, data = layer.find("output/port"), layer.find("data")
    name = _name(port, layer)
    kind = "" if data is None else data.get("element_type", "")
    shape = None if data is None else data.get("shape")
    if shape is None or "..." in shape:
        return TensorSpec(name, DTYPES.get(kind, kind), None)
    dims = [dim.strip() for dim in shape.split(",") if dim.strip()]
    return TensorSpec(name, DTYPES.get(kind, kind), tuple(_dim(dim, name, axis) for axis, dim in enumerate(dims)))


def _output(port: ET.Element, layer: ET.Element) -> TensorSpec:
    name = _name(port, layer)
    kind = port.get("precision", "").lower()
    dims = [dim.text or "" for dim in port.iterfind("dim")]
    shape = tuple(_dim(dim, name, axis) for axis, dim in enumerate(dims))
    return TensorSpec(
        name, DTYPES.get({"fp32": "f32", "fp16": "f16", "fp64": "f64", "bool": "boolean"}.get(kind, kind), kind), shape
    )


def _name(port: ET.Element | None, layer: ET.Element) -> str:
    """Return the alphabetically first of a tensor's names, as the openvino target does; the layer's if it has none."""
    names = "" if port is None else port.get("names", "")
    return min((name for name in names.split(",") if name), default=layer.get("name", ""))


def _dim(text: str, name: str, axis: int) -> Dim:
    """Parse a dimension: ``3`` is a fixed size; ``?``, ``-1`` and ``1..8`` are dynamic."""
    return int(text) if text.isdigit() else "batch" if axis == 0 else f"{name}_{axis}"
