"""The contract of a target's options: a pydantic model whose fields are spelled as the runtime spells them.

Options travel as plain JSON values (manifests, records, messages to a child process); the model checks them where they
come in. Child processes do without pydantic, so a target names its model as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from optkit.errors import UsageError
from optkit.lazy import did_you_mean
from optkit.options.validation import complaint

Scalar = str | bool | int | float
"""A value of an option that optkit does not know, but the runtime may."""


class RuntimeOptions(BaseModel):
    """Options of a runtime. All may be left out: then the runtime's own default holds.

    A subclass with ``extra="allow"`` and ``__pydantic_extra__: dict[str, Scalar]`` hands unknown names to the runtime.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @classmethod
    def read(cls, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given options as plain JSON values. Raises UsageError naming the option of ``target``."""
        try:
            return cls.model_validate(dict(options)).model_dump(mode="json", exclude_unset=True)
        except ValidationError as error:
            found = complaint(error)
        name = str(found.place[0])
        if found.kind == "extra_forbidden":
            raise UsageError(f"{target} has no option {name!r}", hint=did_you_mean(name, list(cls.model_fields)))
        raise UsageError(f"{target}'s option {found.line(name)}")
