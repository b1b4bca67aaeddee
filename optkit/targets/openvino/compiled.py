"""An OpenVINO graph as compiled: for feeds of any shape, and for those of the static shapes in its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.errors import TargetError
from optkit.formats.openvino.reading import openvino_library, read_model
from optkit.formats.tensors import Arrays
from optkit.system.native import foreign

_OWN = ("device", "static_shapes")
"""Options that are not OpenVINO's."""


class Forms:
    """A graph compiled for any shapes, and for the static ones of its options; each when it is first needed."""

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.core = openvino_library().Core()
        self.graph = read_model(path, self.core)
        self._options, self._name = options, path.name
        self._shapes = {key: tuple(shape) for key, shape in options.get("static_shapes", {}).items()}
        self._compiled: dict[bool, Any] = {}

    def first(self) -> Any:
        """Return the form that most feeds run on."""
        return self._form(static=bool(self._shapes))

    def general(self) -> Any:
        """Return the form that takes any feed."""
        return self._form(static=False)

    def fitting(self, feed: Arrays) -> Any:
        """Return the form that this feed runs on."""
        return self._form(
            static=bool(self._shapes) and {name: array.shape for name, array in feed.items()} == self._shapes
        )

    def _form(self, *, static: bool) -> Any:
        if static not in self._compiled:
            graph = _reshaped(self.graph, self._shapes, self._name) if static else self.graph
            self._compiled[static] = _compile(self.core, graph, self._options, self._name)
        return self._compiled[static]


def _compile(core: Any, graph: Any, options: dict[str, Any], name: str) -> Any:
    properties = {key: value for key, value in options.items() if key not in _OWN and value is not None}
    with foreign(f"openvino refuses {name} on {options['device']}", TargetError):
        return core.compile_model(graph, options["device"], properties)


def _reshaped(graph: Any, shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    """Return a copy of the graph that takes inputs of these shapes alone."""
    copy = graph.clone()
    with foreign(f"openvino refuses the static shapes of {name}", TargetError):
        copy.reshape({key: list(shape) for key, shape in shapes.items()})
    return copy
