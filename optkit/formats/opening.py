"""``optkit.open``: the format of a file recognized, and the model opened without running it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from optkit import lazy
from optkit.errors import ModelError, SignatureError
from optkit.formats import tensorrt_engine
from optkit.formats.model import TORCH_FORMATS, Format, Model, files_of
from optkit.formats.tensors import Signature, TensorSpec, parse_inputs
from optkit.system import digests, user_code

_KNOWN = (
    "a model is a torch file (.pt, .pth, .pt2, .safetensors), .onnx, an OpenVINO .xml, a TensorRT engine, or a bundle"
)
_KINDS = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"%PDF": "a PDF",
    b"\x93NUMPY": "a numpy array", b"\x89HDF": "an HDF5 file (Keras?)", b"\x1f\x8b": "a gzip file; unpack it first",
    b"GGUF": "a GGUF file", b"version https://git-lfs": "a Git LFS pointer; fetch the file: git lfs pull",
    b"PK": "a zip archive, but not torch's",
}  # fmt: skip


def open(path: str | Path, *, inputs: tuple[str, ...] = (), code: str | None = None, trust: bool = False) -> Model:
    """Open the model at ``path`` (a file, or the folder of a bundle) and detect its format.

    ``inputs`` are texts ``NAME:DTYPE[DIM,DIM]`` that give the signature or refine it. ``code`` (``FILE.py:CALLABLE``)
    is used for state dicts and pickled modules only. Raises ModelError for a file that is missing, empty, truncated,
    renamed or of no known format, SignatureError for ``inputs`` that contradict the file, UntrustedError for a file
    that would run code without ``trust``.
    """
    file = Path(path)
    given = parse_inputs(inputs)
    _check_there(file)
    found = _open_bundle(file) if file.is_dir() else _open_file(file, code, trust)
    return replace(found, signature=_merged(found, given)) if given else found


def _open_file(path: Path, code: str | None, trust: bool) -> Model:
    from optkit.formats.torch.archive import sniff

    torch_format = sniff(path)
    if torch_format:
        return _open_torch(path, torch_format, code, trust)
    head = _head(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<net")):
        from optkit.formats.openvino import ir

        signature = ir.signature(ir.read(path))
        return Model(path, "openvino", digests.sha256(*files_of(path, "openvino")), signature)
    engine = tensorrt_engine.header(head)
    if engine is not None:
        _check_whole(path, engine.size)
        return Model(path, "tensorrt", digests.sha256(path))
    return _open_onnx(path, head)


def _check_whole(path: Path, size: int | None) -> None:
    found = path.stat().st_size
    if size not in (None, found):
        raise ModelError(
            f"{path}: damaged engine: the file has {found} bytes, its header says {size}",
            hint="copy or build it again",
        )


def _open_torch(path: Path, format: Format, code: str | None, trust: bool) -> Model:
    from optkit.formats.torch import exported_program, loading
    from optkit.formats.torch.archive import noted_signature, traced_signature

    if not lazy.available("torch"):
        lazy.require("torch", extra="torch")
    if not trust:
        format = loading.check(path, format, code=code)
    signature = None
    if format == "torchscript":
        signature = traced_signature(path)
    elif format == "exported-program":
        signature = exported_program.signature(path)
    elif format == "state-dict":
        signature = noted_signature(path)
    kept = code if format == "state-dict" else None
    return Model(path, format, _digest(path, kept), signature, code=kept, trusted=trust)


def _open_onnx(path: Path, head: bytes) -> Model:
    from optkit.formats.onnx import graph
    from optkit.formats.onnx.signature import read_signature

    try:
        proto = graph.parse(path)
    except ModelError:
        # ONNX has no magic number; its first field is the version of the format.
        if path.suffix == ".onnx" and head[:1] == b"\x08":
            raise
        raise _not_a_model(path, head) from None
    files = (path, *graph.external_files(proto, path))
    return Model(path, "onnx", digests.sha256(*files), read_signature(proto))


def _not_a_model(path: Path, head: bytes) -> ModelError:
    kind = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)
    if kind is None and head[:1] == b"\x80":
        kind = "a pickle that torch.save did not write"
    if kind is None and head.isascii() and b"\0" not in head:
        kind = "a text file"
    owner = next((path.with_suffix(suffix) for suffix in (".xml", ".onnx") if path.with_suffix(suffix).is_file()), None)
    hint = f"the model is beside it: {owner}" if owner and owner != path else _KNOWN
    return ModelError(f"{path}: not a model" + (f": it is {kind}" if kind else ""), hint=hint)


def _check_there(path: Path) -> None:
    if path.is_dir():
        return
    if not path.exists():
        folder = path.parent if path.parent.is_dir() else Path()
        near = get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
        hint = f"did you mean {folder / near[0]}?" if near else _KNOWN
        raise ModelError(f"{path}: no such file", hint=hint)
    if not path.is_file():
        raise ModelError(f"{path}: not a regular file", hint=_KNOWN)
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: the file is empty", hint="copy or export it again")


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


def _open_bundle(folder: Path) -> Model:
    from optkit.formats import bundle_manifest  # its records take long to import, and a worker's child needs none

    record = bundle_manifest.read(folder)
    path = folder / record.model
    return Model(
        path,
        record.format,
        digests.sha256(*files_of(path, record.format)),
        bundle_manifest.signature(record.signature),
        target=record.target,
        options=record.options,
    )


def _digest(path: Path, code: str | None) -> str:
    """Hash the file and, for a state dict, ``code``: weights alone do not define a model."""
    digest = digests.sha256(path)
    if code is None:
        return digest
    return hashlib.sha256(f"{digest} {digests.sha256(user_code.file_of(code))} {code}".encode()).hexdigest()


def _merged(model: Model, given: tuple[TensorSpec, ...]) -> Signature:
    """Merge the ``given`` inputs into the signature: they replace a torch file's inputs and refine a graph's."""
    if model.signature is None or model.format in TORCH_FORMATS:
        return Signature(given, model.signature.outputs if model.signature else ())
    named = {spec.name: spec for spec in given}
    known = {spec.name: spec for spec in model.signature.inputs}
    for spec in given:
        _check_refines(spec, known, model.path)
    return Signature(tuple(named.get(spec.name, spec) for spec in model.signature.inputs), model.signature.outputs)


def _check_refines(spec: TensorSpec, known: Mapping[str, TensorSpec], path: Path) -> None:
    where = f"--input {spec}: {path.name}"
    if spec.name not in known:
        raise SignatureError(f"{where} has no such input", hint=lazy.did_you_mean(spec.name, known))
    own = known[spec.name]
    hint = f"the file says {own}"
    if spec.dtype != own.dtype:
        raise SignatureError(f"{where} takes {own.dtype}, not {spec.dtype}", hint=hint)
    if own.shape is None or spec.shape is None:
        return
    if len(spec.shape) != len(own.shape):
        raise SignatureError(f"{where} takes rank {len(own.shape)}, not {len(spec.shape)}", hint=hint)
    for axis, (asked, fixed) in enumerate(zip(spec.shape, own.shape, strict=True)):
        if isinstance(fixed, int) and asked != fixed:
            raise SignatureError(f"{where} has the fixed size {fixed} at axis {axis}, not {asked}", hint=hint)
