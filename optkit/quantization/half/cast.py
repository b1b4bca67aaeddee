"""Cast insertion: the float32 operators of an ONNX graph in float16 or bfloat16.

For runtimes that take each operator's precision from the graph. onnxruntime's converter knows no bfloat16, and keeps
the operators in float32 that its own kernels lack.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optkit.formats.onnx.graph import opset_of
from optkit.formats.onnx.nodes import DEFAULT_DOMAINS, inside
from optkit.formats.onnx.signature import infer_shapes
from optkit.formats.tensors import Array

FLOAT = 1
"""``onnx.TensorProto.FLOAT``."""
_CREATORS = ("Cast", "ConstantOfShape")
"""Operators that make floats of other dtypes, in the dtype that an attribute names."""
_SHOWN = 1024
"""Elements up to which shape inference sees a constant's values. Larger ones hold no shapes, and cost memory."""


@dataclass(frozen=True)
class HalfType:
    """A floating-point type of 16 bits."""

    name: str
    elem_type: int
    """ONNX's number of it, as in ``onnx.TensorProto.DataType``."""
    largest: float
    """The largest finite value."""
    smallest: float
    """The smallest normal value: those below it are subnormal, and have fewer significant bits."""


FLOAT16 = HalfType("float16", 10, 65504.0, 2.0**-14)
BFLOAT16 = HalfType("bfloat16", 16, 2.0**127 * (2 - 2.0**-7), 2.0**-126)
HALF_TYPES = {"fp16": FLOAT16, "bf16": BFLOAT16}
"""By the names of the option."""


@dataclass(frozen=True)
class HalfGraph:
    """A model whose operators compute in ``half``, and the names of its 16-bit tensors, constants aside."""

    proto: Any
    half: HalfType
    tensors: frozenset[str]


@dataclass(eq=False)
class CastOperator:
    """A node of the main graph; for each input and output, True where it is float32 and may be 16-bit instead."""

    node: Any
    inputs: list[bool]
    outputs: list[bool]


class FloatGraph:
    """The main graph of a float32 model that is to compute in ``half``, with producer and consumers of each tensor."""

    def __init__(self, proto: Any, half: HalfType) -> None:
        self.proto, self.half = proto, half
        self.dtypes = infer_dtypes(proto)
        # The early versions lack bfloat16 for Conv and others; runtimes that have it do not ask for a node's version.
        self._version = None if half is BFLOAT16 else opset_of(proto)
        self.operators = [self._operator(node) for node in proto.graph.node]
        self.producers = {name: each for each in self.operators for name in each.node.output if name}
        self.consumers: defaultdict[str, list[CastOperator]] = defaultdict(list)
        for each in self.operators:
            for name in dict.fromkeys(each.node.input):
                self.consumers[name].append(each)

    def is_float(self, name: str) -> bool:
        """Tell whether a tensor is float32."""
        return self.dtypes.get(name) == FLOAT

    def _operator(self, node: Any) -> CastOperator:
        if node.domain not in DEFAULT_DOMAINS:
            return CastOperator(node, [False] * len(node.input), [False] * len(node.output))
        takes, gives = _parameters(node.op_type, self._version, self.half)
        inputs, outputs = self._able(node.input, takes), self._able(node.output, gives)
        if node.op_type == "LayerNormalization":
            outputs[1:] = [False] * (len(outputs) - 1)  # stash_type says float32
        if node.op_type not in _CREATORS and not any(map(self.is_float, node.input)):
            outputs = [False] * len(outputs)
        return CastOperator(node, inputs, outputs)

    def _able(self, names: Sequence[str], allowed: tuple[bool, ...]) -> list[bool]:
        last = len(allowed) - 1  # the last parameter may be variadic
        return [self.is_float(name) and allowed[min(place, last)] for place, name in enumerate(names)]


@functools.cache
def _parameters(op_type: str, version: int | None, half: HalfType) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """For each input and output in ONNX's definition of an operator, True where it may be of the half type.

    ``version`` is an opset; None stands for the newest.
    """
    from onnx import defs

    try:
        schema = defs.get_schema(op_type) if version is None else defs.get_schema(op_type, version)
    except defs.SchemaError:
        return (False,), (False,)
    fitting = {
        each.type_param_str for each in schema.type_constraints if f"tensor({half.name})" in each.allowed_type_strs
    }
    inputs, outputs = (
        tuple(each.type_str in fitting for each in formal) or (False,) for formal in (schema.inputs, schema.outputs)
    )
    return inputs, outputs


def infer_dtypes(proto: Any) -> dict[str, int]:
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


def insert_casts(graph: FloatGraph, kept: Collection[CastOperator]) -> HalfGraph:
    """Return a copy in which the operators compute in 16 bits, except those in ``kept``.

    ``kept`` includes the operators that have no 16-bit form (``limits.unsupported``). Inputs and outputs of the
    graph keep their dtypes. A tensor that is computed in one type and read in the other is cast once. Tensors keep
    their names, except outputs. Constants beyond the range of the half type saturate.
    """
    return _CastInsertion(graph, kept).result()


class _CastInsertion:
    """The tensors that are computed and read in each of the two types, and the nodes with casts between them."""

    def __init__(self, graph: FloatGraph, kept: Collection[CastOperator]) -> None:
        self._proto, self._half = graph.proto.graph, graph.half
        self._model = graph.proto
        given = {value.name for value in self._proto.input}
        self._constants = {
            tensor.name
            for tensor in self._proto.initializer
            if tensor.data_type == FLOAT and tensor.name not in given  # an input's initializer is its default
        }
        self._outputs = {value.name for value in self._proto.output}
        self._operators = [
            CastOperator(each.node, [False] * len(each.inputs), [False] * len(each.outputs)) if each in kept else each
            for each in graph.operators
        ]
        self._computed: set[str] = set()
        """Tensors that are computed in the half type."""
        self._read: dict[bool, set[str]] = {True: set(), False: set(self._outputs)}
        """Tensors that are read in the half type (True), and as they were (False)."""
        self._names = {*given, *(tensor.name for tensor in self._proto.initializer)}
        for each in self._operators:
            node, outer = each.node, outer_names(each.node)
            self._computed.update(name for name, half in zip(node.output, each.outputs, strict=True) if half)
            for name, half in zip(node.input, each.inputs, strict=True):
                self._read[half].add(name)
            self._read[False] |= outer
            self._names |= {node.name, *node.output, *outer}
        self._others: dict[str, str] = {}

    def result(self) -> HalfGraph:
        changed = _copied(self._model, "graph")
        changed.graph.CopyFrom(_copied(self._proto, "node", "value_info", "initializer"))
        for tensor in self._proto.initializer:
            changed.graph.initializer.extend(self._stored(tensor))
        for name in dict.fromkeys(value.name for value in self._proto.input):
            changed.graph.node.extend(self._casts(name))
        for each in self._operators:
            changed.graph.node.append(self._rewritten(each))
            for name in each.node.output:
                changed.graph.node.extend(self._casts(name))
        tensors = self._computed | (self._read[True] - self._constants)
        return HalfGraph(changed, self._half, frozenset(self._name(name, half=True) for name in tensors))

    def _name(self, name: str, *, half: bool) -> str:
        """Return the name of a float tensor in one of the two types."""
        if name in self._constants:
            own = not half or name not in self._read[False]
        elif name in self._outputs:
            own = not half
        else:
            own = half == (name in self._computed)
        if own or not name:
            return name
        if name not in self._others:
            self._others[name] = self._unused(f"{name}_{self._half.name if half else 'float32'}")
        return self._others[name]

    def _unused(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _stored(self, tensor: Any) -> Iterator[Any]:
        """Yield an initializer in each of the types that it is read in."""
        half = tensor.name in self._constants and tensor.name in self._read[True]
        if not half or tensor.name in self._read[False]:
            yield tensor
        if half:
            yield to_half(tensor, self._half, self._name(tensor.name, half=True))

    def _casts(self, name: str) -> Iterator[Any]:
        """Yield the Cast of a tensor to the type that it is not computed in, if it is read in that."""
        from onnx import helper

        half = name in self._computed
        if name in self._read[not half]:
            source, result = self._name(name, half=half), self._name(name, half=not half)
            elem_type = FLOAT if half else self._half.elem_type
            yield helper.make_node("Cast", [source], [result], self._unused(f"{result}_cast"), to=elem_type)

    def _rewritten(self, operator: CastOperator) -> Any:
        from onnx import helper

        changed = type(operator.node)()
        changed.CopyFrom(operator.node)
        for names, halves in ((changed.input, operator.inputs), (changed.output, operator.outputs)):
            names[:] = [self._name(name, half=half) for name, half in zip(names, halves, strict=True)]
        rename_outer(changed, {name: self._name(name, half=False) for name in outer_names(changed)})
        if any(operator.outputs):
            if changed.op_type == "ConstantOfShape" and not changed.attribute:
                zero = helper.make_tensor("zero", FLOAT, [1], [0.0])
                changed.attribute.append(helper.make_attribute("value", zero))
            half = self._half
            set_elem_type(changed, FLOAT, half.elem_type, lambda tensor: to_half(tensor, half, tensor.name))
        return changed


def _copied(message: Any, *without: str) -> Any:
    """Return copy of a protobuf message without some fields. Copied and then cleared, weights would stay in memory."""
    copied = type(message)()
    for field, value in message.ListFields():
        if field.name in without:
            continue
        if hasattr(value, "extend"):
            getattr(copied, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(copied, field.name).CopyFrom(value)
        else:
            setattr(copied, field.name, value)
    return copied


def outer_names(node: Any) -> set[str]:
    """Names of the tensors that a node's subgraphs read from the graph around them."""
    used: set[str] = set()
    own: set[str] = set()
    for graph in inside(node):
        used.update(name for each in graph.node for name in each.input)
        used.update(value.name for value in graph.output)
        own.update(name for each in graph.node for name in each.output)
        own.update(value.name for value in graph.input)
        own.update(tensor.name for tensor in graph.initializer)
    return used - own


def rename_outer(node: Any, names: Mapping[str, str]) -> None:
    """Rename, in place, the tensors that a node's subgraphs read from the graph around them."""
    renamed = {name: names[name] for name in outer_names(node) & names.keys()}
    for graph in inside(node):
        for each in graph.node:
            each.input[:] = [renamed.get(name, name) for name in each.input]
        for value in graph.output:
            value.name = renamed.get(value.name, value.name)


def set_elem_type(node: Any, before: int, after: int, convert: Callable[[Any], Any]) -> None:
    """Change the dtype of a node's result where an attribute names or holds it, in place."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == before:
            attribute.i = after
        elif attribute.HasField("t") and attribute.t.data_type == before:
            attribute.t.CopyFrom(convert(attribute.t))


def to_half(tensor: Any, half: HalfType, name: str) -> Any:
    """A float32 tensor in the half type: rounded to the nearest, ties to even, and saturated at the end of the range.

    Infinities and NaN stay.
    """
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    values = np.where(np.isfinite(values), np.clip(values, -half.largest, half.largest), values)
    if half is BFLOAT16:  # numpy has none: it is the upper half of the bits
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        raw = np.where(np.isnan(values), np.uint16(0x7FC0), upper).tobytes()
    else:
        raw = values.astype("<f2").tobytes()
    return type(tensor)(name=name, dims=tensor.dims, data_type=half.elem_type, raw_data=raw)


def to_float32(tensor: Any) -> Any:
    """Return a 16-bit tensor in float32, without loss."""
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type == FLOAT16.elem_type:
        values: Array = numpy_helper.to_array(tensor).astype(np.float32)
    else:
        bits = np.frombuffer(tensor.raw_data, "<u2") if tensor.raw_data else np.asarray(tensor.int32_data)
        values = (bits.astype("<u4") << 16).view("<f4").reshape(tensor.dims)
    return numpy_helper.from_array(values, tensor.name)
