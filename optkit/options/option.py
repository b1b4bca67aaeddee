"""The contract of a group of options, and the types that options share.

A group is a frozen, strict pydantic model. A field is an option: its name is the keyword in Python and the key in a
recipe, and with dashes the option on the command line; its description is the help. ``Spelling`` holds what differs on
the command line.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from optkit import units


@dataclass(frozen=True, eq=False)  # hashed as part of an annotation
class Spelling:
    """The form of an option on the command line and in a Python call, where it is not the usual one."""

    names: tuple[str, ...] = ()
    """``("-o", "--output")``; by default the field's name with dashes."""
    metavar: str | None = None
    argument: bool = False
    """True if it is an argument of the command instead of an option."""
    positional: bool = False
    """True if Python callers may give it without its name; arguments always may be."""
    text: bool = False
    """True if the command line hands over the text as it is, for the field's validator to parse."""
    hidden: bool = False
    """True if the command line does not have it."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """A flag for each value, with its help, in place of the option."""
    group: str | None = None
    """The heading that it stands under, where that is not its class's."""
    parse: Callable[[Any], Any] | None = None
    """From the command line's text, or list of texts, to the value. Raises ValueError."""


class Options(BaseModel):
    """A group of options."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    group: ClassVar[str] = "Options"
    """The heading that the fields of this class stand under in a help that is grouped."""

    def part(self, kind: type[Part]) -> Part:
        """Build another model from the fields that both have; its others keep their default."""
        shared = {name for name in type(self).model_fields if name in kind.model_fields}
        return kind.model_validate({name: getattr(self, name) for name in shared})


Part = TypeVar("Part", bound=BaseModel)

Strings = Annotated[tuple[str, ...], Field(strict=False)]
"""A list of strings, which Python callers may give as any sequence but a string."""
Place = Annotated[Path, Field(strict=False)]
"""A path, also as a string."""
Duration = Annotated[
    float,
    BeforeValidator(units.parse_seconds, json_schema_input_type=float | str),
    Spelling(metavar="TIME", text=True),
    Field(gt=0),
]
"""Seconds: a number, or a text with its unit (``20ms``)."""
Size = Annotated[
    int,
    BeforeValidator(units.parse_bytes, json_schema_input_type=int | str),
    Spelling(metavar="SIZE", text=True),
    Field(gt=0),
]
"""Bytes: a number, or a text with its unit (``500MB``)."""


class Option(NamedTuple):
    """A field with all of its declaration, wherever in the annotation it stands."""

    name: str
    type: Any
    """The annotation without ``None`` and without metadata."""
    optional: bool
    """True if ``None`` is allowed."""
    field: FieldInfo
    metadata: tuple[Any, ...]
    spelling: Spelling
    description: str
    group: str

    @property
    def flag(self) -> str:
        """The name on the command line: ``--learning-rate``, or ``MODEL`` of an argument."""
        if self.spelling.argument:
            return self.spelling.metavar or self.name.upper()
        return self.spelling.names[-1] if self.spelling.names else f"--{self.name.replace('_', '-')}"

    def bound(self, name: str) -> Any:
        """Return the bound ``ge``, ``le``, ``gt`` or ``lt``; None without one."""
        return next((getattr(each, name) for each in self.metadata if hasattr(each, name)), None)


def options_of(model: type[BaseModel]) -> Iterator[Option]:
    """List the options of a model in the order of its help: its own fields, then those of its groups in their order."""
    owners = {
        name: owner
        for owner in reversed(model.__mro__)
        for name in inspect.get_annotations(owner)
        if name in model.model_fields
    }
    order = {owner: place for place, owner in enumerate(model.__mro__)}
    for name in sorted(owners, key=lambda name: order[owners[name]]):
        yield _option(name, model.model_fields[name], getattr(owners[name], "group", "Options"))


def _option(name: str, info: FieldInfo, group: str) -> Option:
    kind, optional, inner = _unwrapped(info.annotation)
    metadata = (*info.metadata, *inner)
    spelling = next((each for each in metadata if isinstance(each, Spelling)), Spelling())
    told = (info, *(each for each in inner if isinstance(each, FieldInfo)))
    description = next((each.description for each in told if each.description), "")
    bounds = tuple(bound for each in inner if isinstance(each, FieldInfo) for bound in each.metadata)
    return Option(name, kind, optional, info, (*metadata, *bounds), spelling, description, spelling.group or group)


def _unwrapped(annotation: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """Split an annotation into its type, True where None is allowed, and the metadata of the alternative to None."""
    optional = False
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        arms = typing.get_args(annotation)
        rest = [arm for arm in arms if arm is not type(None)]
        optional = len(rest) < len(arms)
        annotation = rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007  made at run time
    if typing.get_origin(annotation) is Annotated:
        kind, *metadata = typing.get_args(annotation)
        return kind, optional, tuple(metadata)
    return annotation, optional, ()
