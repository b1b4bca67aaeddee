"""A model on disk: path, format, digest and, if the file holds one, signature; opened without running its code."""

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
    """A model on disk, opened without running its code."""

    path: Path
    """The model file; for a bundle, the model file inside it."""
    format: Format
    """Format of the file at ``path``."""
    digest: str
    """SHA-256 over all files of the model and, for a state dict, the code that builds its module."""
    signature: Signature | None = None
    """Inputs and outputs; ``None`` if the file holds none and none was given."""
    code: str | None = None
    """``FILE.py:CALLABLE`` that builds the module of a state dict."""
    trusted: bool = False
    """True if a pickled module may run its code."""
    target: str | None = None
    """The target that a bundle was compiled for; ``None`` for any other model."""
    options: dict[str, Any] = field(default_factory=dict)
    """Runtime options that a bundle is run with."""

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files of the model, ``path`` first."""
        return files_of(self.path, self.format)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, including external data and ``.bin`` weights."""
        return sum(file.stat().st_size for file in self.files)


def files_of(path: Path, format: str) -> tuple[Path, ...]:
    """List all files of the model at ``path``: itself, then ONNX external data or OpenVINO weights."""
    if format == "onnx":
        from optkit.formats.onnx import graph

        return (path, *graph.external_files(graph.parse(path), path))
    if format == "openvino":
        from optkit.formats.openvino import ir

        return tuple(file for file in (path, ir.weights_of(path)) if file.is_file())
    return (path,)
