"""Values checked by pydantic, and its first complaint as one line for the user: the place, the value, the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from optkit.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)

Place = tuple[str | int, ...]
_OWN_WORDS = ("value_error", "assertion_error")
"""Kinds whose text is a validator's own sentence; in all others pydantic says what the input should be."""
_LONGEST_VALUE = 60
"""Characters of a value that a message shows."""


def checked(model: type[Model], values: Mapping[str, Any], *, named: Callable[[str], str], hint: str) -> Model:
    """Build ``model`` from ``values``. Raises UsageError; ``named`` turns a field's name into that of the user."""
    try:
        return model(**values)
    except ValidationError as error:
        found = complaint(error)
        name = str(found.place[0])
        given = "" if found.kind == "missing" else f" {values.get(name)}"
        raise UsageError(f"{named(name)}{given}: {found.text}", hint=hint) from None


@dataclass(frozen=True)
class Complaint:
    """The first complaint of a ValidationError; ``kind`` is pydantic's ("missing", "extra_forbidden", …).

    ``text`` is its message without pydantic's prefixes: ``should be greater than 0``.
    """

    place: Place
    kind: str
    text: str
    value: object

    def line(self, where: str) -> str:
        """Write the complaint about ``where`` as one line: ``batch should be greater than 0, not -1``."""
        if not where:
            return self.text
        if self.kind == "missing":
            return f"the key {where!r} is missing"
        if self.kind == "extra_forbidden":
            return f"unknown key {where!r}"
        if self.kind in _OWN_WORDS or not self.text.startswith("should "):
            return f"{where}: {self.text}"
        return f"{where} {self.text}, not {short(self.value)}"


def complaint(error: ValidationError) -> Complaint:
    """Return the first complaint of ``error``."""
    first = error.errors(include_url=False)[0]
    text = first["msg"].removeprefix("Input ").removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return Complaint(first["loc"], first["type"], text, first["input"])


def dotted(place: Place) -> str:
    """Write a place as in a recipe: ``stages[1].quantize.precision``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def first_error(error: ValidationError) -> str:
    """Write the first complaint as one line: ``seed should be at least 0, not -1``."""
    found = complaint(error)
    return found.line(dotted(found.place))


def short(value: object) -> str:
    """Write a value as Python does, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
