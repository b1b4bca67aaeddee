"""Options of ``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from optkit.options.option import Spelling, Strings
from optkit.options.source import ModelArgument, ModelSource, Opened, Shapes


def _names(text: str) -> list[str]:
    """``a, b`` -> ["a", "b"]."""
    return [name.strip() for name in text.split(",") if name.strip()]


class InspectCommand(Shapes, ModelSource):
    """All options of the verb."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    group: ClassVar[str] = "Target"

    model: ModelArgument[str | Path | Opened]

    targets: Annotated[Strings, Spelling(("--target",), metavar="NAME,NAME", text=True, parse=_names)] = Field(
        (), description="Targets to ask; by default all that are installed."
    )
