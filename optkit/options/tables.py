"""Tables of options in the documentation, between markers, written by ``python -m optkit.options.tables``.

``<!-- options: prune -->`` and ``<!-- end -->`` stand around the table of a stage's options, ``<!-- keys: recipe -->``
around that of a recipe's keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from optkit import lazy
from optkit.options.option import Option, options_of

_MODELS = {
    "prune": "optkit.options.verbs.prune:PruneOptions",
    "distill": "optkit.options.verbs.distill:DistillOptions",
    "quantize": "optkit.options.verbs.quantize:QuantizeOptions",
    "rules": "optkit.options.rules:Rules",
    "training": "optkit.options.training:Schedule",
    "recipe": "optkit.runs.recipe:Recipe",
}
_BLOCK = re.compile(r"(<!-- (options|keys): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def written(page: str) -> str:
    """Return the text of a page with its tables made anew."""

    def table(found: re.Match[str]) -> str:
        model: type[BaseModel] = lazy.resolve(_MODELS, found[3], kind="table")
        rows = _keys(model) if found[2] == "keys" else _options(model)
        return "".join((found[1], *(f"{row}\n" for row in rows), found[4]))

    return _BLOCK.sub(table, page)


def _keys(model: type[BaseModel]) -> Iterator[str]:
    yield "| key | what it says | default |"
    yield "|---|---|---|"
    for each in options_of(model):
        yield f"| `{each.name}` | {each.description} | {_default(each)} |"


def _options(model: type[BaseModel]) -> Iterator[str]:
    yield "| option | what it says | default |"
    yield "|---|---|---|"
    for each in options_of(model):
        yield f"| {_spelled(each)} | {each.description} | {_default(each)} |"


def _spelled(option: Option) -> str:
    choices = _choices(option.type)
    value = "\\|".join(choices) if choices else option.spelling.metavar or ""
    return f"`{option.flag} {value}`".replace(" `", "`")


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [value for arm in get_args(kind) for value in _choices(arm)]


def _default(option: Option) -> str:
    if option.field.is_required():
        return "required"
    default = option.field.get_default(call_default_factory=True, validated_data={})
    if default is None or default in ((), [], {}) or isinstance(default, BaseModel):
        return ""
    return f"`{', '.join(default) if isinstance(default, list) else default}`"


if __name__ == "__main__":
    for path in Path("docs").glob("*.md"):
        path.write_text(written(path.read_text()))
