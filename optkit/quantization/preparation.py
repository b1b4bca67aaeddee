"""Graphs brought to the state that quantizers work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.errors import StageError
from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import walk
from optkit.formats.onnx.upgrade import constants_to_initializers, upgrade
from optkit.notes import Note
from optkit.quantization.half import widen
from optkit.system.native import Engine
from optkit.targets.onnxruntime import providers


@dataclass(frozen=True)
class Prepared:
    """An ONNX graph that quantizers can work on; ``changed`` is true where it differs from the model's file."""

    proto: Any
    notes: tuple[Note, ...]
    changed: bool


def prepared(model: Model) -> Prepared:
    """Bring the model's graph to a recent opset, its weights to initializers, and give every node a name."""
    proto = graph.load(model.path)
    notes = []
    old = graph.opset_of(proto)
    proto, upgraded = upgrade(proto)
    if upgraded:
        notes.append(Note(f"opset {old} raised to {graph.opset_of(proto)}: scales per channel need 13"))
    moved = constants_to_initializers(proto)
    if moved:
        notes.append(Note(f"{moved} weights moved from Constant nodes to initializers, where quantizers look"))
    halves = widen.widen(proto)
    if halves:
        notes.append(
            Note(f"{halves} tensors in half precision made float32: there are no integer kernels around halves")
        )
    named = _name_nodes(proto)
    return Prepared(proto, tuple(notes), upgraded or halves > 0 or moved > 0 or named > 0)


def simplified(model: Model, workdir: Path, engine: Engine) -> tuple[Path, tuple[Note, ...]]:
    """Fold batch norms and compute constants, as ONNX Runtime does on loading the graph.

    Returns the path of the file below ``workdir``, and notes. Static INT8 works on it: ``exclude`` names its nodes.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready, source, path = prepared(model), model.path, workdir / "simplified.onnx"
    if ready.changed:
        source = workdir / "prepared.onnx"
        graph.save(ready.proto, source)  # given a graph instead of a file, the engine takes its weights away
    try:
        with engine.running(), providers.quiet():
            quant_pre_process(source, path, skip_symbolic_shape=True, verbose=0)
    except StageError:  # an optional step: the graph as it stands can be quantized too
        return source, ready.notes
    return path, ready.notes


def _name_nodes(proto: Any) -> int:
    """Name the nodes that have no name, and count them."""
    taken = {node.name for node in walk(proto)}
    nameless = [(index, node) for index, node in enumerate(proto.graph.node) if not node.name]
    for index, node in nameless:
        name = f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_unnamed"
    return len(nameless)
