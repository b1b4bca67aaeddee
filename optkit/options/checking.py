"""Build a group of options from values, with pydantic's first complaint as one line that names the option."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from optkit.errors import UsageError
from optkit.system import validation

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], values: Mapping[str, Any], *, named: Callable[[str], str], hint: str) -> Model:
    """Build ``model`` from ``values``. Raises UsageError; ``named`` turns a field's name into that of the user."""
    try:
        return model(**values)
    except ValidationError as error:
        found = validation.complaint(error)
        name = str(found.place[0])
        given = "" if found.kind == "missing" else f" {values.get(name)}"
        raise UsageError(f"{named(name)}{given}: {found.text}", hint=hint) from None
