"""An OpenVINO graph as compiled: for feeds of any shape, and for those of the shapes that its options foresee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.errors import TargetError, UsageError
from optkit.formats.openvino import reading as ir_file
from optkit.formats.tensors import Arrays
from optkit.system.native import foreign

_OWN = ("device", "static_shapes")
"""Options that are not OpenVINO's."""


class Forms:
    """A graph as compiled for any shapes, and for the static ones of its options; each when it is first needed."""

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.core = ir_file.library().Core()
        self.graph = ir_file.read(path, self.core)
        self._options, self._name = options, path.name
        self._shapes = _static_shapes(options)
        self._compiled: dict[bool, Any] = {}

    def first(self) -> Any:
        """What most feeds will run on."""
        return self._form(static=bool(self._shapes))

    def general(self) -> Any:
        """What takes any feed."""
        return self._form(static=False)

    def fitting(self, feed: Arrays) -> Any:
        """What this feed runs on."""
        return self._form(
            static=bool(self._shapes) and {name: array.shape for name, array in feed.items()} == self._shapes
        )

    def _form(self, *, static: bool) -> Any:
        if static not in self._compiled:
            graph = _reshaped(self.graph, self._shapes, self._name) if static else self.graph
            self._compiled[static] = _compile(self.core, graph, self._options, self._name)
        return self._compiled[static]


def _compile(core: Any, graph: Any, options: dict[str, Any], name: str) -> Any:
    properties = {key: value for key, value in options.items() if key not in _OWN}
    with foreign(f"openvino refuses {name} on {options['device']}", TargetError):
        return core.compile_model(graph, options["device"], properties)


def _static_shapes(options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = options.get("static_shapes", {})
    lists = list(shapes.values()) if isinstance(shapes, dict) else [None]
    if not all(isinstance(shape, list | tuple) and all(isinstance(dim, int) for dim in shape) for shape in lists):
        raise UsageError("static_shapes is a shape for each input", hint="for example {x: [1, 3, 224, 224]}")
    return {name: tuple(shape) for name, shape in shapes.items()}


def _reshaped(graph: Any, shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    """A copy of the graph that takes inputs of these shapes alone."""
    copy = graph.clone()
    with foreign(f"openvino refuses the static shapes of {name}", TargetError):
        copy.reshape({key: list(shape) for key, shape in shapes.items()})
    return copy
