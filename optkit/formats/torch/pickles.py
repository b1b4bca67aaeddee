"""Pickles read as data: their globals and content, without importing or calling anything.

This is a pickle machine in which a "global" is a name and a "call" a record of the call. torch's restricted unpickler
loads the file; this one finds which globals to allow, and explains refusals.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from optkit.errors import ModelError


@dataclass(frozen=True)
class Global:
    """A class or function that the pickle names."""

    name: str


@dataclass(eq=False)
class PickledCall:
    """An object that the pickle makes by calling ``callee``: its arguments, state and items."""

    callee: Any
    args: tuple[Any, ...]
    state: Any = None
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class StorageReference:
    """A reference to something outside the pickle: torch's storages."""

    key: Any


@dataclass(frozen=True)
class Tensor:
    """A tensor's dtype and shape, without its numbers."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Pickle:
    """A pickle's content and the names of all globals that it asks for."""

    content: Any
    globals: frozenset[str]


_PLAIN = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w+Storage|torch\.Size|torch\.device|torch\.Tensor"
    r"|torch\.b?float\w*|torch\.u?int\d+|torch\.q?u?int\d+(x\d)?|torch\.bool|torch\.half|torch\.double|torch\.complex\d+"
    r"|torch\.per_\w+_\w+|torch\.nn\.parameter\.(Parameter|Buffer)|torch\.serialization\._get_layout"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\._export\.serde\.serialize\._reconstruct_fake_tensor"
    r"|collections\.(OrderedDict|Counter)|builtins\.(set|bytearray|complex)|_codecs\.encode"
)
_MARK = object()
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Char": "int8",
    "Short": "int16", "Int": "int32", "Long": "int64", "Byte": "uint8", "Bool": "bool",
    "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32",
}  # fmt: skip
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def read(stream: IO[bytes] | bytes, *, where: str) -> Pickle:
    """Read the next pickle of ``stream``; nothing in it runs. Raises ModelError for a damaged one."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return Pickle(machine.stack[-1], frozenset(machine.globals))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError, OverflowError) as error:
        raise ModelError(f"{where}: a damaged or truncated pickle ({error})", hint="copy or save it again") from None


def is_plain(name: str) -> bool:
    """True if torch's restricted unpickler allows this global by default: tensors and plain containers."""
    return _PLAIN.fullmatch(name) is not None


def tensor(value: Any) -> Tensor | None:
    """Return the tensor or parameter that ``value`` stands for, ``None`` if it stands for none."""
    if not isinstance(value, PickledCall) or not isinstance(value.callee, Global):
        return None
    name = value.callee.name
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return tensor(value.args[0]) if value.args else None
    if name == "torch._tensor._rebuild_from_type_v2" and len(value.args) == 4 and isinstance(value.args[2], tuple):
        return tensor(PickledCall(value.args[0], value.args[2]))
    if name.startswith("torch._utils._rebuild_") and len(value.args) > 2:
        return _rebuilt(value.args)
    return None


def _rebuilt(args: tuple[Any, ...]) -> Tensor | None:
    """Read ``_rebuild_tensor_v2(storage, offset, size, stride, …)``; the third version ends with the dtype."""
    storage, shape = args[0], args[2]
    if not isinstance(storage, StorageReference) or not isinstance(storage.key, tuple) or not isinstance(shape, tuple):
        return None
    kinds = [part.name for part in (*storage.key, args[-1]) if isinstance(part, Global)]
    kind = kinds[-1].removeprefix("torch.") if kinds else ""
    dtype = _STORAGES.get(kind.removesuffix("Storage"), kind)
    return Tensor(dtype, tuple(int(dim) for dim in shape))


def is_module(value: Any) -> bool:
    """True if ``value`` stands for an ``nn.Module``."""
    return isinstance(value, PickledCall) and isinstance(value.state, Mapping) and "_modules" in value.state


def submodules(value: Any) -> Iterator[tuple[str, PickledCall]]:
    """Yield the module and all modules in it, each once, with their dotted names."""
    todo, seen = [("", value)], set[int]()
    while todo:
        name, module = todo.pop()
        if id(module) in seen or not is_module(module):
            continue
        seen.add(id(module))
        yield name, module
        children = module.state["_modules"]
        names = list(children) if isinstance(children, Mapping) else []
        todo += [(f"{name}.{child}" if name else str(child), children[child]) for child in reversed(names)]


def weights(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict or of a module, by name."""
    if isinstance(value, Mapping):
        found = {str(key): tensor(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not None}
    named: dict[str, Tensor] = {}
    for name, module in submodules(value):
        for kind in ("_parameters", "_buffers"):
            tensors = weights(module.state.get(kind) or {})
            named |= {f"{name}.{key}" if name else key: item for key, item in tensors.items()}
    return named


class _Machine:
    """The stack, the marks and the memo; one method per kind of opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: set[str] = set()

    def step(self, name: str, argument: Any) -> None:
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, argument)
        elif name in _LITERALS:
            self.stack.append(argument)
        else:
            raise ValueError(f"opcode {name}")

    def marked(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("stack underflow")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def name(self, module: str, attribute: str) -> None:
        full = f"{_PYTHON_2.get(module, module)}.{attribute}"
        self.globals.add(full)
        self.stack.append(Global(full))

    def call(self, callee: Any, args: Any) -> None:
        made: Any = PickledCall(callee, tuple(args) if isinstance(args, list | tuple) else (args,))
        if callee == Global("collections.OrderedDict"):
            made = dict(made.args[0]) if made.args else {}
        elif callee == Global("torch.jit._pickle.restore_type_tag"):
            made = made.args[0]
        self.stack.append(made)

    def set_items(self, items: list[Any]) -> None:
        holder = self.stack[-1]
        pairs = dict(zip(items[::2], items[1::2], strict=True))
        if isinstance(holder, dict):
            holder.update(pairs)
        else:
            holder.items.append(pairs)

    def append(self, items: list[Any]) -> None:
        holder = self.stack[-1]
        if isinstance(holder, list):
            holder.extend(items)
        elif isinstance(holder, set):
            holder.update(items)
        else:
            holder.items.extend(items)

    def build(self, state: Any) -> None:
        holder = self.stack[-1]
        if isinstance(holder, PickledCall):
            holder.state = state
        elif not isinstance(holder, dict):  # an OrderedDict's own attributes (a state dict's metadata) say nothing
            raise TypeError("state of a plain value")


def _call(machine: _Machine, count: int) -> None:
    callee, *rest = machine.take(count)
    machine.call(callee, rest[0])


def _new(machine: _Machine) -> None:
    callee, *args = machine.marked()
    machine.call(callee, args)


def _inst(machine: _Machine, argument: str) -> None:
    args = machine.marked()
    machine.name(*argument.split(" ", 1))
    machine.call(machine.stack.pop(), args)


def _stack_global(machine: _Machine) -> None:
    module, attribute = machine.take(2)
    machine.name(str(module), str(attribute))


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
}  # fmt: skip
_HANDLERS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "STOP": lambda m, _: None,
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.marked(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "LIST": lambda m, _: m.stack.append(m.marked()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.take(3))),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(m.marked())),
    "DICT": lambda m, _: (lambda items: m.stack.append(dict(zip(items[::2], items[1::2], strict=True))))(m.marked()),
    "APPEND": lambda m, _: m.append(m.take(1)),
    "APPENDS": lambda m, _: m.append(m.marked()),
    "ADDITEMS": lambda m, _: m.append(m.marked()),
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.marked()),
    "GET": lambda m, key: m.stack.append(m.memo[int(key)]),
    "BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "LONG_BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "PUT": lambda m, key: m.memo.update({int(key): m.stack[-1]}),
    "BINPUT": lambda m, key: m.memo.update({key: m.stack[-1]}),
    "LONG_BINPUT": lambda m, key: m.memo.update({key: m.stack[-1]}),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "GLOBAL": lambda m, names: m.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: _stack_global(m),
    "INST": _inst,
    "OBJ": lambda m, _: _new(m),
    "REDUCE": lambda m, _: _call(m, 2),
    "NEWOBJ": lambda m, _: _call(m, 2),
    "NEWOBJ_EX": lambda m, _: _call(m, 3),
    "BUILD": lambda m, _: m.build(m.stack.pop()),
    "PERSID": lambda m, key: m.stack.append(StorageReference(key)),
    "BINPERSID": lambda m, _: m.stack.append(StorageReference(m.stack.pop())),
    "EXT1": lambda m, code: m.name("copyreg", f"extension {code}"),
    "EXT2": lambda m, code: m.name("copyreg", f"extension {code}"),
    "EXT4": lambda m, code: m.name("copyreg", f"extension {code}"),
}
