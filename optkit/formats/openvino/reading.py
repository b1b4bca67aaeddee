"""OpenVINO's reader: an ONNX or IR file as its graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit import lazy
from optkit.errors import TargetError
from optkit.system.native import foreign


def openvino_library() -> Any:
    """Import OpenVINO. Raises MissingLibraryError."""
    return lazy.require("openvino", extra="openvino")


def read_model(path: Path, core: Any = None) -> Any:
    """Read the file's graph, as its frontend makes it. Raises TargetError for a file that OpenVINO cannot read."""
    core = core or openvino_library().Core()
    with foreign(f"openvino refuses {path.name}", TargetError):
        return core.read_model(path)
