"""Write ``optkit/__init__.pyi``, which tells editors and type checkers the keywords of every verb.

``python -m optkit.options.stub`` writes it anew from the options and from the records that the verbs return.
"""

from __future__ import annotations

import inspect
import json
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticUndefined

import optkit
from optkit.options.option import Option, Options, options_of
from optkit.options.source import Opened

FILE = Path(optkit.__file__).with_name("__init__.pyi")
_HEAD = '''\
"""{summary}"""

# Written by python -m optkit.options.stub: do not edit.
# ruff: noqa

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

{imports}

__version__: str
__all__ = {names}
'''
_WIDTH = 112


def text() -> str:
    """Spell the stub."""
    functions = {name: getattr(optkit, name) for name in optkit.__all__ if name != "__version__"}
    verbs = {name: found for name, found in functions.items() if hasattr(found, "__wrapped__")}
    records = {_record(verb) for verb in verbs.values()} - {str}
    found = {(record.__module__, record.__name__) for record in (*records, Opened)} | {("optkit.progress", "Progress")}
    imports = {f"from {module} import {name}" for module, name in found}
    imports |= {f"from {functions[name].__module__} import {name} as {name}" for name in functions.keys() - verbs}
    head = _HEAD.format(
        summary=(optkit.__doc__ or "").splitlines()[0],
        imports="\n".join(sorted(imports)),
        names="[\n" + "".join(f'    "{name}",\n' for name in optkit.__all__) + "]",
    )
    return "\n".join([head, *(_function(name, verb) for name, verb in verbs.items())])


def _record(verb: Callable[..., Any]) -> type:
    function = inspect.unwrap(verb)
    found: type = function.__globals__.get(function.__annotations__["return"], str)
    return found


def _model(verb: Callable[..., Any]) -> type[Options]:
    function = inspect.unwrap(verb)
    found: type[Options] = function.__globals__[function.__annotations__["options"]]
    return found


def _function(name: str, verb: Callable[..., Any]) -> str:
    options = {each.name: each for each in options_of(_model(verb))}
    lines, keyword_only = [f"def {name}("], False
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            lines.append("    *,")
            keyword_only = True
        lines.append(f"    {_parameter(options[parameter.name]) if parameter.name in options else _PROGRESS},")
    lines.append(f") -> {_record(verb).__name__}:")
    return "\n".join([*lines, *_documented(inspect.getdoc(verb) or "", options.values())]) + "\n"


_PROGRESS = "progress: Progress = ..."


def _documented(told: str, options: typing.Collection[Option]) -> Iterator[str]:
    """Spell the docstring, with a line for each option."""
    if not options:
        yield f'    """{told}"""'
        return
    yield from textwrap.indent(f'"""{told}\n', "    ").splitlines()
    yield ""
    for each in options:
        line = f"{each.name}: {each.description}"
        yield textwrap.fill(line, _WIDTH, initial_indent="    ", subsequent_indent="        ")
    yield '    """'


def _parameter(option: Option) -> str:
    kind = accepted(option.field.annotation, option.field.metadata)
    if option.field.is_required():
        return f"{option.name}: {kind}"
    default = option.field.get_default(call_default_factory=True, validated_data={})
    return f"{option.name}: {kind} = {_literal(default)}"


def accepted(annotation: Any, metadata: typing.Iterable[Any] = ()) -> str:
    """Spell the type of the values that a caller may give for an annotation, which validators may widen."""
    for each in metadata:
        if isinstance(each, BeforeValidator) and each.json_schema_input_type is not PydanticUndefined:
            return accepted(each.json_schema_input_type)
    origin, arms = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return accepted(arms[0], arms[1:])
    if origin in (typing.Union, UnionType):
        return " | ".join(dict.fromkeys(part for arm in arms for part in accepted(arm).split(" | ")))
    if origin is Literal:
        return f"Literal[{', '.join(map(_literal, arms))}]"
    if origin is tuple:
        return f"Sequence[{accepted(arms[0])}]"
    if origin is not None:
        names = {dict: "Mapping"}
        return f"{names.get(origin, origin.__name__)}[{', '.join(map(accepted, arms))}]"
    named: dict[Any, str] = {NoneType: "None", Path: "str | Path"}
    return named.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    FILE.write_text(text())
