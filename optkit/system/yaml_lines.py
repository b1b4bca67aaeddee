"""YAML files with the line of every key and item, for error messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from optkit.errors import UsageError

Place = tuple[str | int, ...]
"""Path to a value: keys of mappings and indices of lists."""


@dataclass(frozen=True)
class Document:
    """A file's content as plain Python values, and the lines of its keys and items."""

    file: Path
    content: Any
    lines: Mapping[Place, int]

    def where(self, place: Place) -> str:
        """Write ``recipe.yaml:12``, the line of ``place`` or of the nearest key or item around it in the file."""
        while place not in self.lines:
            place = place[:-1]
        return f"{self.file}:{self.lines[place]}"


def read(file: Path, failure: type[UsageError]) -> Document:
    """Read ``file``. Raises ``failure`` for invalid YAML, an empty file, a duplicate key, or a value inside itself."""
    text = _text(file, failure)
    try:
        loader = Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise failure(f"{file}:{line}: not valid YAML: the character U+{error.character:04X}") from None
    try:
        node = loader.get_single_node()
        if node is None:
            raise failure(f"{file}: the file is empty")
        lines = dict(_lines(node, (), ()))
        return Document(file, loader.construct_document(node), lines)
    except _NestingError as error:
        raise failure(f"{file}:{error}") from None
    except yaml.MarkedYAMLError as error:
        raise failure(f"{file}{_line(error)}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise failure(f"{file}: not valid YAML: {error}") from None
    finally:
        loader.dispose()


class Loader(yaml.SafeLoader):
    """YAML 1.1 without dates, and with ``1e-3`` as a number."""

    yaml_implicit_resolvers = {  # noqa: RUF012  this is how the library is told
        first: [(tag, form) for tag, form in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _NestingError(Exception):
    """A duplicate key of a mapping, or a value inside itself."""


def _text(file: Path, failure: type[UsageError]) -> str:
    if file.is_dir():
        raise failure(f"{file}: a folder, not a file")
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise failure(f"{file}: no such file", hint=_near(file)) from None
    except UnicodeDecodeError:
        raise failure(f"{file}: not a text file") from None


def _near(file: Path) -> str | None:
    found = sorted(each.name for each in file.parent.glob("*.y*ml"))
    return f"in that folder: {', '.join(found[:10])}" if found else None


def _lines(node: yaml.Node, place: Place, around: tuple[int, ...]) -> Iterator[tuple[Place, int]]:
    if id(node) in around:
        raise _NestingError(f"{node.start_mark.line + 1}: the value contains itself")
    if place == ():
        yield place, node.start_mark.line + 1
    for key, child, mark in _children(node):
        yield (*place, key), mark.line + 1
        yield from _lines(child, (*place, key), (*around, id(node)))


def _children(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node, yaml.Mark]]:
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield index, child, child.start_mark
    if isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            name = str(key.value)
            if name in seen and name != "<<":
                raise _NestingError(f"{line}: the key {name!r} is given twice, first in line {seen[name]}")
            seen[name] = line
            yield name, child, key.start_mark


def _line(error: yaml.MarkedYAMLError) -> str:
    return f":{error.problem_mark.line + 1}" if error.problem_mark else ""
