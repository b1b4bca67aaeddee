"""Single precision made half in the graph itself, for runtimes that take each operator's precision from there.

onnxruntime's converter knows no bfloat16, and keeps in float32 what its own kernels lack.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from optkit.formats.onnx.graph import opset_of
from optkit.formats.onnx.nodes import DEFAULT_DOMAINS, inside
from optkit.formats.onnx.signature import infer_shapes
from optkit.formats.tensors import Array

FLOAT = 1
"""``onnx.TensorProto.FLOAT``."""
_MAKING = ("Cast", "ConstantOfShape")
"""Operators that make floats of what are none, of the type that an attribute says."""
_LACKING = {"float16": (), "bfloat16": ("ConvTranspose", "GRU", "HardSwish", "Mish")}
"""Operators that ONNX has in a narrow type and TensorRT not: its parser refuses them, or its builder has no kernel."""
_MOVING = ("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that compute nothing."""
_SHOWN = 1024
"""Elements up to which inference sees a constant's values: more tell it nothing, and models have any size."""


@dataclass(frozen=True)
class Narrow:
    """A floating-point type of 16 bits: ONNX's number for it, its largest value and its least of full precision."""

    name: str
    number: int
    largest: float
    least: float


FLOAT16 = Narrow("float16", 10, 65504.0, 2.0**-14)
BFLOAT16 = Narrow("bfloat16", 16, 2.0**127 * (2 - 2.0**-7), 2.0**-126)
NARROWS = {"fp16": FLOAT16, "bf16": BFLOAT16}
"""By what the user calls them."""


@dataclass(frozen=True)
class Narrowed:
    """A graph with narrow operators, and its narrow tensors by name, constants aside."""

    proto: Any
    tensors: frozenset[str]


def dtypes(proto: Any) -> dict[str, int]:
    """ONNX's numbers of the dtypes of the main graph's tensors, as far as they can be inferred."""
    from onnx import helper

    given = {value.name for value in proto.graph.input}
    shown = [tensor for tensor in proto.graph.initializer if math.prod(tensor.dims) <= _SHOWN]
    hidden = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in proto.graph.initializer
        if math.prod(tensor.dims) > _SHOWN and tensor.name not in given
    ]
    graph = helper.make_graph(
        proto.graph.node, "light", [*proto.graph.input, *hidden], proto.graph.output, shown, None,
        proto.graph.value_info,
    )  # fmt: skip
    light = helper.make_model(
        graph, opset_imports=proto.opset_import, functions=proto.functions, ir_version=proto.ir_version
    )
    inferred = infer_shapes(light).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    found |= {tensor.name: int(tensor.data_type) for tensor in proto.graph.initializer}
    return {name: number for name, number in found.items() if number}


def unable(proto: Any, narrow: Narrow, known: dict[str, int]) -> dict[int, str]:
    """Why nodes of the main graph that compute float32 cannot do so in the narrow type, by their place in it."""
    found = {}
    for place, node in enumerate(proto.graph.node):
        touched = [name for name in (*node.input, *node.output) if name]
        if next(inside(node), None) is not None:
            found[place] = "control flow stays whole"
        elif any(name not in known for name in touched):
            found[place] = "not all of its tensors are of known dtypes"
        elif any(known[name] == FLOAT for name in touched) and not any(map(any, _slots(proto, node, narrow, known))):
            found[place] = f"ONNX has none in {narrow.name}"
        elif node.op_type in _LACKING[narrow.name]:
            found[place] = f"TensorRT has none in {narrow.name}"
    why = "before a GRU in float32, as TensorRT builds none behind a cast to that"
    wide = [place for place in found if proto.graph.node[place].op_type == "GRU"]
    return dict.fromkeys(_before(proto, known, wide), why) | found


def _before(proto: Any, known: dict[str, int], places: list[int]) -> set[int]:
    """The places of what makes the floats that the nodes at ``places`` take in, up to where those are computed."""
    nodes = proto.graph.node
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if known.get(name) == FLOAT}
    waiting, found = [nodes[place].input[0] for place in places], set()
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker not in found:
            found.add(maker)
            waiting += nodes[maker].input if nodes[maker].op_type in _MOVING else ()
    return found


def _slots(proto: Any, node: Any, narrow: Narrow, known: dict[str, int]) -> tuple[list[bool], list[bool]]:
    """Which inputs and which outputs of a node are float32 now and can be narrow."""
    schema = _schema(proto, node, narrow)
    if schema is None:
        return [False] * len(node.input), [False] * len(node.output)
    fitting = {
        each.type_param_str for each in schema.type_constraints if f"tensor({narrow.name})" in each.allowed_type_strs
    }

    def able(names: Any, formal: Any) -> list[bool]:
        last = len(formal) - 1  # the last may be variadic
        return [
            known.get(name) == FLOAT and formal[min(place, last)].type_str in fitting
            for place, name in enumerate(names)
        ]

    outputs = able(node.output, schema.outputs)
    if node.op_type == "LayerNormalization":
        outputs[1:] = [False] * (len(outputs) - 1)  # stash_type says float32
    if node.op_type not in _MAKING and all(known.get(name) != FLOAT for name in node.input):
        outputs = [False] * len(outputs)
    return able(node.input, schema.inputs), outputs


def _schema(proto: Any, node: Any, narrow: Narrow) -> Any:
    """ONNX's definition of a node's operator: the model's version, or the newest for bfloat16.

    The early ones lack bfloat16 for Conv and others, but runtimes that have it do not ask of which version a node is.
    """
    from onnx import defs

    if node.domain not in DEFAULT_DOMAINS:
        return None
    try:
        return defs.get_schema(node.op_type) if narrow is BFLOAT16 else defs.get_schema(node.op_type, opset_of(proto))
    except defs.SchemaError:
        return None


def narrowed(proto: Any, narrow: Narrow, keep: Collection[int], known: dict[str, int]) -> Narrowed:
    """A copy in which the float32 operators compute in the narrow type, but for those at the places of ``keep``.

    ``keep`` holds what ``unable`` names, ``known`` is what ``dtypes`` tells. Inputs and outputs of the graph stay as
    they are. A tensor that is computed in one type and taken in the other is cast once. Tensors keep their names,
    outputs aside. Constants beyond the narrow type's range become its largest or lowest value.
    """
    return _Rewrite(proto, narrow, keep, known).done()


class _Rewrite:
    """The work of ``narrowed``: in which types tensors are computed and taken, and then the nodes with casts."""

    def __init__(self, proto: Any, narrow: Narrow, keep: Collection[int], known: dict[str, int]) -> None:
        self._proto, self._narrow = proto, narrow
        given = {value.name for value in proto.graph.input}
        self._constants = {
            tensor.name
            for tensor in proto.graph.initializer
            if tensor.data_type == FLOAT and tensor.name not in given  # what is both can be overridden
        }
        self._outputs = {value.name for value in proto.graph.output}
        self._slots = [
            ([False] * len(node.input), [False] * len(node.output))
            if place in keep
            else _slots(proto, node, narrow, known)
            for place, node in enumerate(proto.graph.node)
        ]
        self._computed: set[str] = set()
        self._taken: dict[bool, set[str]] = {True: set(), False: set(self._outputs)}
        for node, (inputs, outputs) in zip(proto.graph.node, self._slots, strict=True):
            self._computed.update(name for name, able in zip(node.output, outputs, strict=True) if able)
            for name, able in zip(node.input, inputs, strict=True):
                self._taken[able].add(name)
            self._taken[False].update(_captured(node))
        self._names = {name for node in proto.graph.node for name in (node.name, *node.output, *_captured(node))}
        self._names |= {value.name for value in proto.graph.input} | {t.name for t in proto.graph.initializer}
        self._others: dict[str, str] = {}

    def done(self) -> Narrowed:
        graph = self._proto.graph
        changed = type(self._proto)()
        changed.CopyFrom(self._proto)
        del changed.graph.node[:], changed.graph.value_info[:], changed.graph.initializer[:]
        for tensor in graph.initializer:
            changed.graph.initializer.extend(self._stored(tensor))
        for name in dict.fromkeys(value.name for value in graph.input):
            changed.graph.node.extend(self._casts(name))
        for node, slots in zip(graph.node, self._slots, strict=True):
            changed.graph.node.append(self._rewritten(node, *slots))
            for name in node.output:
                changed.graph.node.extend(self._casts(name))
        return Narrowed(changed, frozenset(self._name(name, narrow=True) for name in self._narrow_tensors()))

    def _narrow_tensors(self) -> set[str]:
        return self._computed | (self._taken[True] - self._constants)

    def _name(self, name: str, *, narrow: bool) -> str:
        """What a float tensor is called in one of the two types."""
        if name in self._constants:
            own = not narrow or name not in self._taken[False]
        elif name in self._outputs:
            own = not narrow
        else:
            own = narrow == (name in self._computed)
        if own or not name:
            return name
        if name not in self._others:
            self._others[name] = self._fresh(f"{name}_{self._narrow.name if narrow else 'float32'}")
        return self._others[name]

    def _fresh(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _stored(self, tensor: Any) -> Iterator[Any]:
        wide, narrow = (tensor.name in self._taken[able] for able in (False, True))
        if tensor.name not in self._constants or wide or not narrow:
            yield tensor
        if tensor.name in self._constants and narrow:
            yield narrow_tensor(tensor, self._narrow, self._name(tensor.name, narrow=True))

    def _casts(self, name: str) -> Iterator[Any]:
        """The Cast of a tensor to the type that it is not computed in, where it is taken in that."""
        from onnx import helper

        narrow = name in self._computed
        if name in self._taken[not narrow]:
            source, result = self._name(name, narrow=narrow), self._name(name, narrow=not narrow)
            number = FLOAT if narrow else self._narrow.number
            yield helper.make_node("Cast", [source], [result], self._fresh(f"{result}_cast"), to=number)

    def _rewritten(self, node: Any, inputs: list[bool], outputs: list[bool]) -> Any:
        from onnx import helper

        changed = type(node)()
        changed.CopyFrom(node)
        changed.input[:] = [self._name(name, narrow=able) for name, able in zip(node.input, inputs, strict=True)]
        changed.output[:] = [self._name(name, narrow=able) for name, able in zip(node.output, outputs, strict=True)]
        renamed = {name: self._name(name, narrow=False) for name in _captured(node)}
        for graph in inside(changed):
            for inner in graph.node:
                inner.input[:] = [renamed.get(name, name) for name in inner.input]
            for value in graph.output:
                value.name = renamed.get(value.name, value.name)
        if changed.op_type == "ConstantOfShape" and any(outputs) and not changed.attribute:
            changed.attribute.append(helper.make_attribute("value", helper.make_tensor("zero", FLOAT, [1], [0.0])))
        for attribute in changed.attribute if any(outputs) else ():
            if attribute.name in ("to", "dtype") and attribute.i == FLOAT:
                attribute.i = self._narrow.number
            elif attribute.HasField("t") and attribute.t.data_type == FLOAT:
                attribute.t.CopyFrom(narrow_tensor(attribute.t, self._narrow, attribute.t.name))
        return changed


def _captured(node: Any) -> set[str]:
    """Names of tensors that subgraphs of a node take from around it."""
    used: set[str] = set()
    own: set[str] = set()
    for graph in inside(node):
        used.update(name for each in graph.node for name in each.input)
        used.update(value.name for value in graph.output)
        own.update(name for each in graph.node for name in each.output)
        own.update(value.name for value in graph.input)
        own.update(tensor.name for tensor in graph.initializer)
    return used - own


def narrow_tensor(tensor: Any, narrow: Narrow, name: str) -> Any:
    """A float32 tensor in the narrow type: rounded to the nearest, what is beyond its range to the end of that."""
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    values = np.where(np.isfinite(values), np.clip(values, -narrow.largest, narrow.largest), values)
    if narrow is BFLOAT16:  # which numpy has not: the upper half of the bits
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # halves go to the even neighbour
        raw = np.where(np.isnan(values), np.uint16(0x7FC0), upper).tobytes()
    else:
        raw = values.astype("<f2").tobytes()
    return type(tensor)(name=name, dims=tensor.dims, data_type=narrow.number, raw_data=raw)


def widened_tensor(tensor: Any) -> Any:
    """A tensor of a narrow type in float32, to the last bit."""
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type == FLOAT16.number:
        values: Array = numpy_helper.to_array(tensor).astype(np.float32)
    else:
        values = (np.frombuffer(tensor.raw_data, "<u2").astype("<u4") << 16).view("<f4").reshape(tensor.dims)
    return numpy_helper.from_array(values, tensor.name)
