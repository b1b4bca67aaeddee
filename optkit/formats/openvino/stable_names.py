"""Names of OpenVINO nodes that are the same in every process.

OpenVINO numbers unnamed nodes by a counter of the process, so the same model written twice differs. Here they are
numbered by their position in the graph, so that equal models have equal digests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.errors import OutputError, lasting
from optkit.formats.openvino.reading import openvino_library, read_model
from optkit.system.native import reason


def read(path: Path) -> Any:
    """Read an ONNX or IR file and give its nodes stable names. Raises TargetError if OpenVINO cannot read it."""
    graph = read_model(path)
    settle(graph)
    return graph


def save(graph: Any, path: Path, *, half: bool = False) -> None:
    """Write the IR; ``half`` stores weights in FP16. Raises OutputError if it cannot be written."""
    settle(graph)
    try:
        openvino_library().save_model(graph, path, compress_to_fp16=half)
    except RuntimeError as error:
        raise OutputError(
            f"{lasting(str(path))}: OpenVINO could not write the model: {reason(error)}",
            hint="is the disk full? TMPDIR moves temporary files",
        ) from None


def settle(graph: Any) -> None:
    """Name the nodes that OpenVINO numbered after their type and position; names from the model file stay."""
    nodes = graph.get_ordered_ops()
    taken = {node.get_friendly_name() for node in nodes if not _numbered(node)}
    for place, node in enumerate(node for node in nodes if _numbered(node)):
        number = place
        while (name := f"{node.get_type_name()}.{number}") in taken:
            number += len(nodes)
        taken.add(name)
        node.set_friendly_name(name)


def _numbered(node: Any) -> bool:
    """Return True if the node's friendly name is the one that OpenVINO generated."""
    return bool(node.get_friendly_name() == node.get_name())
