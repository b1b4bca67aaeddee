"""Names of OpenVINO's nodes that are the same in every process.

OpenVINO numbers the nodes that have no name of their own by a counter of the process, so that the same model written
twice differs. Here they are numbered by their place in the graph; then equal results have equal digests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.errors import OutputError
from optkit.formats.openvino import reading as ir_file


def read(path: Path) -> Any:
    """The graph of an ONNX or IR file, before anything is derived from its names. Raises TargetError for what OpenVINO
    cannot read.
    """
    graph = ir_file.read(path)
    settle(graph)
    return graph


def save(graph: Any, path: Path, *, half: bool = False) -> None:
    """Write the IR; ``half`` stores weights in FP16. Raises OutputError where it cannot be written."""
    settle(graph)
    try:
        ir_file.library().save_model(graph, path, compress_to_fp16=half)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise OutputError(
            f"{path.parent}: OpenVINO could not write the model: {reason}", hint="is the disk full? TMPDIR moves it"
        ) from None


def settle(graph: Any) -> None:
    """Name the nodes that OpenVINO numbered by their type and place; names that the model brought stay."""
    nodes = graph.get_ordered_ops()
    taken = {node.get_friendly_name() for node in nodes if not _numbered(node)}
    for place, node in enumerate(node for node in nodes if _numbered(node)):
        number = place
        while (name := f"{node.get_type_name()}.{number}") in taken:
            number += len(nodes)
        taken.add(name)
        node.set_friendly_name(name)


def _numbered(node: Any) -> bool:
    """Whether the name that the node shows is the one that OpenVINO made up."""
    return bool(node.get_friendly_name() == node.get_name())
