"""Format, content and globals of a torch file, read without torch and without running anything in it."""

from __future__ import annotations

import ast
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from optkit.errors import ModelError
from optkit.formats.tensors import Dim, Signature, TensorSpec, parse_inputs
from optkit.formats.torch import pickles
from optkit.formats.torch.pickles import Pickle, Tensor

TorchFormat = Literal["module", "state-dict", "torchscript", "exported-program"]
ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files from torch before 1.6, or of ``_use_new_zipfile_serialization=False``."""
_NESTED = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
    "ema_state_dict", "model_ema", "ema",
)  # fmt: skip
"""Keys under which checkpoints keep the state dict, the most specific first."""
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, KeyError,
    ValueError,
)  # fmt: skip
"""Exceptions of zipfile on damaged archives."""
NOTES = "optkit"
"""Key of optkit's JSON in the metadata of a ``.safetensors``: ``inputs``, ``structure``."""
_HEADER_LIMIT = 100_000_000


def sniff(path: Path) -> TorchFormat | None:
    """Detect the torch format of the file by its content; ``None`` for other files.

    Raises ModelError for a damaged torch file, and for one without a model.
    """
    try:
        if _starts(path, ZIP):
            return _sniff_zip(path)
        if is_legacy(path):
            return _kind(path, read_pickle(path))
    except RecursionError:
        raise ModelError(f"{path}: a damaged torch file: it holds itself", hint="save the model again") from None
    return "state-dict" if is_safetensors(path) else None


def read_pickle(path: Path) -> Pickle:
    """Read the pickle of a module, state dict or checkpoint."""
    if not _starts(path, ZIP):
        with path.open("rb") as stream:
            for _ in range(3):  # magic number, protocol, system
                pickles.read(stream, where=str(path))
            return pickles.read(stream, where=str(path))
    with open_archive(path) as archive:
        return pickles.read(archive.read(f"{root_folder(archive)}data.pkl"), where=str(path))


def nested_keys(held: Any, weights: Any) -> tuple[str, ...]:
    """Find the keys that lead to the state dict in a checkpoint; ``weights(value)`` returns a value's tensors."""
    if not isinstance(held, Mapping):
        return ()
    inner = [key for key in _NESTED if _holds(held.get(key), weights)]
    others = [key for key, value in held.items() if isinstance(key, str) and _holds(value, weights)]
    if not inner and (weights(held) or len(others) != 1):
        return ()
    key = (inner or others)[0]
    return (key, *nested_keys(held[key], weights))


def _holds(value: Any, weights: Any) -> bool:
    """True if there are tensors in ``value``, a mapping or a module, or under a well-known key of it."""
    if isinstance(value, Mapping):
        return bool(weights(value)) or any(_holds(value.get(key), weights) for key in _NESTED)
    return bool(weights(value))


def is_legacy(path: Path) -> bool:
    """True for torch's format before 1.6: a sequence of pickles, no zip."""
    return _starts(path, LEGACY)


def is_safetensors(path: Path) -> bool:
    """True if the file begins as safetensors do: the length of a JSON header, then the header."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] <= _HEADER_LIMIT


def safetensors_header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file. Raises ModelError for a damaged or truncated file."""
    truncated = ModelError(f"{path}: a damaged or truncated safetensors file", hint="copy it again")
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        text = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise truncated from None
    if path.stat().st_size < 8 + length + max(ends, default=0):
        raise truncated
    return header


@contextmanager
def open_archive(path: Path, stream: IO[bytes] | None = None) -> Iterator[zipfile.ZipFile]:
    """Open the zip archive at ``path``, or the one inside it that ``stream`` reads.

    Raises ModelError for a damaged archive, or one with two entries of one name.
    """
    try:
        with zipfile.ZipFile(stream or path) as archive:
            names = archive.namelist()
            if len(names) != len(set(names)):
                raise ModelError(f"{path}: a zip archive with two entries of one name", hint="save the model again")
            yield archive
    except _BROKEN:
        raise ModelError(f"{path}: a damaged or truncated torch file (zip)", hint="copy or save it again") from None


def root_folder(archive: zipfile.ZipFile) -> str:
    """Return the folder in the archive that holds all entries, with its slash."""
    names = archive.namelist()
    first = names[0].partition("/")[0] + "/" if names else ""
    return first if all(name.startswith(first) for name in names) else ""


def _sniff_zip(path: Path) -> TorchFormat | None:
    with open_archive(path) as archive:
        names = {name.removeprefix(root_folder(archive)) for name in archive.namelist()}
    if "serialized_exported_program.json" in names or any(name.startswith("models/") for name in names):
        return "exported-program"
    if any(name.startswith("data/aotinductor/") for name in names):
        raise ModelError(f"{path}: a package of compiled code (AOTInductor), not a model", hint="torch.export.save")
    if "data.pkl" not in names:
        return None
    if any(name.startswith("code/") for name in names) or "constants.pkl" in names:
        return "torchscript"
    return _kind(path, read_pickle(path))


def _kind(path: Path, pickle: Pickle) -> TorchFormat:
    held = pickle.content
    if pickles.is_module(held) or (isinstance(held, pickles.PickledCall) and pickles.tensor(held) is None):
        return "module"
    keys = nested_keys(held, pickles.weights)
    for key in keys:
        held = held[key]
    if not pickles.weights(held):
        kind = "a tensor" if pickles.tensor(held) else f"a {type(held).__name__} without tensors"
        raise ModelError(f"{path}: a torch file, but not a model: it holds {kind}", hint="save a module or state dict")
    return "state-dict"


def traced_signature(path: Path) -> Signature | None:
    """Read the inputs that a TorchScript file was traced with, named by its ``forward``; ``None`` if it keeps none.

    A first axis that all inputs share counts as the batch: a trace does not say which dimensions are dynamic.
    """
    with open_archive(path) as archive:
        base = root_folder(archive)
        if f"{base}traced_inputs.pkl" not in archive.namelist():
            return None
        traced = pickles.read(archive.read(f"{base}traced_inputs.pkl"), where=str(path)).content
        values = traced.get("forward") if isinstance(traced, dict) else None
        tensors = [pickles.tensor(value) for value in values or ()]
        names = _forward_names(archive, base, path)
    if not tensors or None in tensors:
        return None
    return _signature(names, [tensor for tensor in tensors if tensor is not None])


def read_notes(path: Path) -> dict[str, Any]:
    """Read optkit's metadata in a ``.safetensors``; empty for other files.

    Raises ModelError for metadata that cannot be read.
    """
    if not is_safetensors(path):
        return {}
    try:
        found = json.loads((safetensors_header(path).get("__metadata__") or {}).get(NOTES, "{}"))
    except (ValueError, TypeError, AttributeError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: its metadata {NOTES!r} cannot be read", hint="write the file again")
    return found


def noted_signature(path: Path) -> Signature | None:
    """Return the inputs in optkit's metadata; ``None`` without."""
    inputs = read_notes(path).get("inputs")
    return Signature(parse_inputs(map(str, inputs))) if isinstance(inputs, list) and inputs else None


def _signature(names: list[str], tensors: list[Tensor]) -> Signature:
    if len(names) < len(tensors):
        names = [f"input_{index}" for index in range(len(tensors))]
    batched = len({tensor.shape[:1] for tensor in tensors}) == 1 and all(tensor.shape for tensor in tensors)
    shapes: list[tuple[Dim, ...]] = [("batch", *tensor.shape[1:]) if batched else tensor.shape for tensor in tensors]
    dtypes = [tensor.dtype for tensor in tensors]
    return Signature(tuple(TensorSpec(*each) for each in zip(names, dtypes, shapes, strict=False)))


def _forward_names(archive: zipfile.ZipFile, base: str, path: Path) -> list[str]:
    """List the arguments of ``forward`` in the code of the archive's outermost class."""
    held = pickles.read(archive.read(f"{base}data.pkl"), where=str(path)).content
    wanted = (
        held.callee.name if isinstance(held, pickles.PickledCall) and isinstance(held.callee, pickles.Global) else ""
    )
    module, _, name = wanted.rpartition(".")
    entry = f"{base}code/{module.replace('.', '/')}.py"
    if entry not in archive.namelist():
        return []
    try:
        tree = ast.parse(archive.read(entry))
    except (SyntaxError, ValueError):
        return []
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    functions = [node for each in classes for node in each.body if isinstance(node, ast.FunctionDef)]
    forward = [node for node in functions if node.name == "forward"]
    return [argument.arg for argument in forward[0].args.args[1:]] if forward else []


_GAP = r"(?:\s|\\|\#[^\n]*\n)*"
_FILE_OPERATORS = re.compile(rf"\.{_GAP}(from_file|save|load_tensor){_GAP}\(")


def file_operators(path: Path) -> list[str]:
    """List operators in a TorchScript file's code that read or write files; code may run already on loading."""
    found: set[str] = set()
    with open_archive(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                found |= set(_FILE_OPERATORS.findall(archive.read(name).decode("utf-8", "replace")))
    return sorted(f"torch.{name}" for name in found)


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic
