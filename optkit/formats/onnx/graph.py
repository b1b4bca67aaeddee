"""ONNX files: read with checked external data, written whole or not at all, and their operator sets."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from optkit.errors import ModelError
from optkit.formats.onnx.nodes import DEFAULT_DOMAINS, walk, walk_tensors
from optkit.system import atomic

if TYPE_CHECKING:
    import onnx


OPSET = 17
"""Opset that stages work on: per-channel DequantizeLinear needs 13, LayerNormalization is one operator from 17."""
OLDEST_OPSET = 9
EMBEDDED_LIMIT = 2_000_000_000
"""Bytes of weights above which a model keeps them in a file beside it: protobuf is limited to 2 GiB."""


def load(path: Path) -> onnx.ModelProto:
    """Load the model with its external data. Raises ModelError, also for external data outside the model's folder."""
    from onnx.external_data_helper import load_external_data_for_model

    proto = parse(path)
    if external_files(proto, path):
        load_external_data_for_model(proto, str(path.parent.resolve()))
    return proto


def parse(path: Path) -> onnx.ModelProto:
    """Load the model without its external data. Raises ModelError for a damaged or truncated ONNX file."""
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
    """Write the model to ``path`` whole or not at all.

    Past ``embedded_limit`` bytes its weights go to ``path.data`` beside it, and leave ``proto``. Raises OutputError
    where nothing can be written.
    """
    from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

    with atomic.aside(path) as folder:
        if weight_bytes(proto) > embedded_limit:
            convert_model_to_external_data(proto, location=f"{path.name}.data", size_threshold=1024)
            proto = write_external_data_tensors(proto, str(folder))
        (folder / path.name).write_bytes(proto.SerializeToString())


def external_files(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """List the external data files beside ``path``. Raises ModelError for one that is missing, short or elsewhere."""
    found: dict[str, Path] = {}
    for tensor in walk_tensors(proto):
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
    """Return the version of ONNX's own operators that the model uses."""
    return max((entry.version for entry in proto.opset_import if entry.domain in DEFAULT_DOMAINS), default=OPSET)


def opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the versions of all operator sets, by domain."""
    return {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Count the bytes of the tensors in the model's file, approximately."""
    return sum(tensor.ByteSize() for tensor in walk_tensors(proto))
