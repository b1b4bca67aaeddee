"""What OpenVINO reads: an ONNX or IR file as its graph, and its errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit import lazy
from optkit.errors import TargetError

_NOISE = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "Summary:")
"""How the lines of an error begin that say where in OpenVINO it arose, not what is wrong."""


def library() -> Any:
    """OpenVINO. Raises MissingLibraryError."""
    return lazy.require("openvino", extra="openvino")


def read(path: Path, core: Any = None) -> Any:
    """The graph of the file, as its frontend makes it. Raises TargetError for what OpenVINO cannot read."""
    core = core or library().Core()
    try:
        return core.read_model(path)
    except Exception as error:  # noqa: BLE001  frontends raise more than RuntimeError
        raise TargetError(f"openvino refuses {path.name}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What is wrong, in one line, out of a message that mostly says where it arose."""
    lines = [line.strip(" -\t") for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_NOISE)]
    return "; ".join(telling or lines[-1:]).replace(":; ", ": ")
