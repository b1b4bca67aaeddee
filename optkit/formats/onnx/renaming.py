"""Renaming of the outputs and dynamic dimensions of an ONNX graph; names stay unique, as runtimes require."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

from optkit.formats.onnx.nodes import walk, walk_graphs

if TYPE_CHECKING:
    import onnx


def outputs(proto: onnx.ModelProto, names: Sequence[str]) -> None:
    """Rename the model's outputs to ``names``, in order and in place.

    Inner values that bear one of these names are renamed, because runtimes refuse a graph that defines a name twice.
    """
    from onnx import helper

    given = {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    renamed: dict[str, str] = {}
    for value, name in zip(proto.graph.output, names, strict=True):
        if value.name in given or value.name in renamed:
            proto.graph.node.append(helper.make_node("Identity", [value.name], [name], name=f"output/{name}"))
            value.name = name
        else:
            renamed[value.name] = name
    _rename_values(proto, _apart(proto, set(names), renamed) | renamed)


def _apart(proto: onnx.ModelProto, taken: set[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Map inner values whose name is in ``taken``, and that are no output, to new names."""
    identities = {node.output[0] for node in proto.graph.node if node.name.startswith("output/")}
    inner = {name for node in walk(proto) for name in node.output}
    inner |= {tensor.name for each in walk_graphs(proto) for tensor in each.initializer}
    clashing = sorted((inner & taken) - set(renamed) - identities)
    free = (name for name in (f"value_{index}" for index in count()) if name not in inner | taken)
    return {name: next(free) for name in clashing}


def _rename_values(proto: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    for node in walk(proto):
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for each in walk_graphs(proto):
        for named in (*each.output, *each.value_info, *each.initializer):
            named.name = renamed.get(named.name, named.name)


def dimensions(proto: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    """Rename dynamic dimensions in place, in expressions too: ``2*s77`` becomes ``2*batch``."""
    for each in walk_graphs(proto):
        for value in (*each.input, *each.output, *each.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_param = re.sub(r"\w+", lambda word: renamed.get(word[0], word[0]), dim.dim_param)
