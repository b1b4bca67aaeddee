"""A graph run on the CPU in this process, so that tensors inside it can be looked at, a feed at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.tensors import Arrays
from optkit.targets.target import target

AS_WRITTEN = {"graph_optimization_level": "ORT_ENABLE_BASIC"}
"""Without kernels of onnxruntime's own for integers; those that it puts in for 8-bit floats compute something else."""


@contextmanager
def probed(
    model: Model, proto: Any, workdir: Path, names: tuple[str, ...] = ()
) -> Iterator[Callable[[Arrays], Arrays]]:
    """A function from a feed to what ``proto``, a changed graph of ``model``, yields, with the tensors of ``names``.

    Raises TargetError where onnxruntime refuses the graph or fails.
    """
    from onnx import ValueInfoProto

    copied = type(proto)()
    copied.CopyFrom(proto)  # a large one would lose its weights on saving
    given = {value.name for value in copied.graph.output}
    copied.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in given)
    runtime = target("onnxruntime")
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        path = Path(folder) / "probed.onnx"
        graph.save(copied, path)
        del copied
        options = runtime.default_options() | AS_WRITTEN
        with runtime.open(replace(model, path=path, digest="", signature=None), options) as session:
            yield session.run
