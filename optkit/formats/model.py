"""What is this file? A Model is a path with its format, its digest and, where the file holds one, its signature."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from optkit.formats.tensors import Signature

Format = Literal["module", "state-dict", "torchscript", "exported-program", "onnx", "openvino", "tensorrt", "bundle"]


TORCH_FORMATS = ("module", "state-dict", "torchscript", "exported-program")


@dataclass(frozen=True)
class Model:
    """A model on disk, opened without running its code.

    ``signature`` is ``None`` when the file holds none and none was given. ``code`` (``FILE.py:CALLABLE``) builds the
    module of a state dict. ``trusted`` lets a pickled module run its code. ``target`` and ``options`` are set for a
    bundle (``path`` is then the model file inside it, ``format`` that file's) and say how it is to be run.
    """

    path: Path
    format: Format
    digest: str
    signature: Signature | None = None
    code: str | None = None
    trusted: bool = False
    target: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files that make up the model, ``path`` first."""
        return files_of(self.path, self.format)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, files beside it included (external data, ``.bin``)."""
        return sum(file.stat().st_size for file in self.files)


def files_of(path: Path, format: str) -> tuple[Path, ...]:
    """All files that make up the model at ``path``: itself, ONNX external data, OpenVINO weights."""
    if format == "onnx":
        from optkit.formats.onnx import graph

        return (path, *graph.external_files(graph.parse(path), path))
    if format == "openvino":
        from optkit.formats.openvino import ir

        return tuple(file for file in (path, ir.weights_of(path)) if file.is_file())
    return (path,)
