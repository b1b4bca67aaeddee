"""torch's exported programs (``.pt2``): their signature from the JSON inside, and a check for code in them.

``torch.export.load`` unpickles, evaluates expressions, looks up functions by dotted names and compiles guards, all
from the file; so all of it is checked here first, against an allow-list.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optkit import units
from optkit.errors import ModelError, UntrustedError
from optkit.formats.tensors import Dim, Signature, TensorSpec
from optkit.formats.torch import pickles
from optkit.formats.torch.archive import ZIP, open_archive, root_folder

_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool",
    13: "bfloat16", 28: "uint16", 29: "uint32", 30: "uint64",
}  # fmt: skip
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|quantized|torchao)\.(?!from_file\b)\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|invoke_subgraph|flex_attention"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum|sqrt)|torch\._sym_sqrt"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem"
    r"|lshift|rshift)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
"""Functions that a graph's nodes may call: torch's operators and the arithmetic of sizes."""
_TOKEN = re.compile(r"[A-Za-z_]\w*|'[^']*'|\d[\d.]*(?:e[+-]?\d+)?|[\s+\-*/%(),<>=&|~]")
_WORD = re.compile(r"[A-Za-z]{1,4}\d+|'[A-Za-z]{1,4}\d+'|'[\d.e+-]+'|\d.*|\W")
_WORDS = {
    "Symbol", "positive", "integer", "nonnegative", "real", "zero", "finite", "evaluate", "precision", "True",
    "False", "oo", "int_oo", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Max", "Min", "Mod", "Abs",
    "Add", "Mul", "Pow", "Integer", "Rational", "Float", "FloorDiv", "ModularIndexing", "Where", "PythonMod",
    "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow",
    "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "ToFloat",
}  # fmt: skip
"""Names allowed in expressions over sizes; sympy evaluates them as Python, so no others may be in them."""
_COMMENTS = ("metadata", "stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack")
"""Keys of comments, which torch neither evaluates nor compiles."""
_QUOTED = re.compile(r"""[^'"\\\n\r]*""")
_PLAIN = re.compile(r"[\w.+\-:/@ ,\[\]]*")
_NAME = re.compile(r"[\w.]*")
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_GUARD_NAMES = {"L", "True", "False", "None", "math", "torch"}
_GUARD_ATTRIBUTES = {"size", "shape", "dtype", "device", "stride", "dim", "ndim", "item", "isnan", "inf"}
_GUARD_CALLS = {"size", "stride", "dim", "item", "isnan", "len", "isinstance"}


def signature(path: Path) -> Signature:
    """Read the inputs that the program was exported with, dynamic dimensions named.

    A dynamic first dimension that all inputs share is called ``batch``, others after the input and axis where they
    first occur. Raises ModelError for inputs that are not tensors.
    """
    program = _program(path)
    try:
        graph = program["graph_module"]["graph"]
        arguments = [
            spec["user_input"]["arg"]
            for spec in program["graph_module"]["signature"]["input_specs"]
            if "user_input" in spec
        ]
        if not all("as_tensor" in argument for argument in arguments):
            raise ModelError(f"{path}: exported with inputs that are not tensors", hint="export it with tensors alone")
        names = [argument["as_tensor"]["name"] for argument in arguments]
        return _signature({name: graph["tensor_values"][name] for name in names})
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise _damaged(path) from None


def _signature(tensors: dict[str, Any]) -> Signature:
    names: dict[str, str] = {}
    firsts = [_symbol(meta["sizes"][0]) if meta["sizes"] else None for meta in tensors.values()]
    if firsts and firsts[0] and len(set(firsts)) == 1:
        names[firsts[0]] = "batch"
    return Signature(tuple(_spec(name, meta, names) for name, meta in tensors.items()))


def _spec(name: str, meta: dict[str, Any], names: dict[str, str]) -> TensorSpec:
    """Read one input; ``names`` maps each dynamic size to its name, which is given where it occurs first."""
    dims: list[Dim] = []
    for axis, size in enumerate(meta["sizes"]):
        symbol = _symbol(size)
        dims.append(int(size["as_int"]) if symbol is None else names.setdefault(symbol, f"{name}_{axis}"))
    return TensorSpec(name, _DTYPES.get(meta["dtype"], "unknown"), tuple(dims))


def _symbol(size: Mapping[str, Any]) -> str | None:
    """Return torch's expression for a dynamic size; ``None`` for a fixed one."""
    return None if "as_int" in size else str(size["as_expr"]["expr_str"])


def _program(path: Path) -> dict[str, Any]:
    with open_archive(path) as archive:
        base = root_folder(archive)
        names = [name for name in archive.namelist() if _is_program(name.removeprefix(base))]
        if len(names) != 1:
            raise ModelError(f"{path}: {len(names)} programs in one file; optkit opens files with one")
        try:
            program: dict[str, Any] = json.loads(archive.read(names[0]))
        except ValueError:
            raise _damaged(path) from None
    return program


def _is_program(name: str) -> bool:
    return name == "serialized_exported_program.json" or (name.startswith("models/") and name.endswith(".json"))


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path}: a damaged exported program", hint="save it again with torch.export.save")


def check(path: Path) -> None:
    """Check that loading the file runs no Python code besides its operators. Raises UntrustedError."""
    asked = sorted(set(_dangers(path)))
    if asked:
        raise UntrustedError(
            f"{path}: loading it could run code; it asks for {units.listed(asked)}",
            hint="--trust, if you made this file yourself",
        )


def _dangers(path: Path) -> Iterator[str]:
    with open_archive(path) as archive:
        base = root_folder(archive)
        for entry in archive.namelist():
            name = entry.removeprefix(base)
            if name.startswith("data/aotinductor/"):
                yield "compiled code (data/aotinductor)"
            elif "custom_obj" in name or "opaque_obj" in name:
                yield f"a pickled object ({name})"
            elif name.endswith(".json"):
                yield from _json_dangers(_json(archive.read(entry), path))
            elif name.endswith(".pt"):
                yield from _pickle_dangers(archive.read(entry), path)


def _json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data) if data else None
    except (ValueError, RecursionError):
        raise _damaged(path) from None


def _json_dangers(value: Any, key: str = "") -> Iterator[str]:
    """Yield dangers in a program's JSON. torch builds Python source from its names, so every string is checked."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not _PLAIN.fullmatch(name):
                yield f"the name {name!r}"
            if name not in _COMMENTS or key == "graph_module":
                yield from _json_dangers(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _json_dangers(item, key)
    elif isinstance(value, str) and not _CHECKS.get(key, _PLAIN.fullmatch)(value):
        yield f"{key} {value[:60]!r}"


def _is_expression(text: str) -> bool:
    tokens = _TOKEN.findall(text)
    return "".join(tokens) == text and all(token in _WORDS or _WORD.fullmatch(token) for token in tokens)


def _plain_containers(text: str) -> bool:
    """True if a tree of containers consists of tuples, lists and dicts alone."""
    try:
        _, todo = json.loads(text)
        nodes = [todo]
        for node in nodes:
            if node["type"] not in _CONTAINERS or not _is_context(node["context"]):
                return False
            nodes.extend(node["children_spec"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return not text
    return True


def _is_context(text: str | None) -> bool:
    """True if a container's context is empty, or the keys of a dictionary."""
    keys = json.loads(text or "null")
    plain = keys is None or isinstance(keys, list)
    return plain and all(isinstance(key, int) or (isinstance(key, str) and _PLAIN.fullmatch(key)) for key in keys or ())


def _is_guard(text: str) -> bool:
    """True if the code compares sizes of inputs, and nothing else."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_guards(node) for node in ast.walk(tree))


def _guards(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _GUARD_NAMES | _GUARD_CALLS
    if isinstance(node, ast.Attribute):
        return node.attr in _GUARD_ATTRIBUTES
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return called in _GUARD_CALLS and not node.keywords
    kinds = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop, ast.Expression, ast.Compare)
    return isinstance(node, (*kinds, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Constant))


_CHECKS: dict[str, Callable[[str], Any]] = {
    "target": _OPERATOR.fullmatch,
    "as_operator": _OPERATOR.fullmatch,
    "expr_str": _is_expression,
    "in_spec": _plain_containers,
    "out_spec": _plain_containers,
    "guards_code": _is_guard,
    "as_string": _QUOTED.fullmatch,
    "name": _NAME.fullmatch,
    "forward_arg_names": _NAME.fullmatch,
}


def _pickle_dangers(data: bytes, path: Path) -> Iterator[str]:
    """List the globals other than tensors of a torch file inside the torch file (sample inputs, weights)."""
    if not data.startswith(ZIP):
        return
    with open_archive(path, io.BytesIO(data)) as inner:
        held = pickles.read(inner.read(f"{root_folder(inner)}data.pkl"), where=str(path))
    yield from (name for name in held.globals if not pickles.is_plain(name))
