"""What is this file? A Model is a path with its format, its digest and, where the file holds one, its signature."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optkit.tensors import Signature

Format = Literal["module", "state-dict", "torchscript", "exported-program", "onnx", "openvino", "bundle"]
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

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, files beside it included (external data, ``.bin``)."""
        return sum(file.stat().st_size for file in files_of(self.path, self.format))


def files_of(path: Path, format: str) -> tuple[Path, ...]:
    """All files that make up the model at ``path``: itself, ONNX external data, OpenVINO weights."""
    raise NotImplementedError


def open(
    path: str | Path, *, inputs: tuple[str, ...] = (), code: str | None = None, trust: bool = False
) -> Model:
    """Open the model at ``path`` (a file, or the folder of a bundle) and find out what it is.

    ``inputs`` are ``NAME:DTYPE[DIM,DIM]`` texts that give or override the signature. Raises ModelError for a file
    that is missing, empty, truncated, renamed or of no known format; UntrustedError for one that would run code.
    """
    raise NotImplementedError
