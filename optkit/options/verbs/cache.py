"""Options of ``cache``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from optkit.options.option import Options, Spelling


class CacheCommand(Options):
    """All options of the verb."""

    group: ClassVar[str] = "Cache"

    action: Annotated[Literal["list", "prune"], Spelling(argument=True, metavar="list|prune", text=True)] = Field(
        "list", description="Show the entries, or remove some."
    )
    older_than: Annotated[float | None, Spelling(metavar="DAYS")] = Field(
        None, ge=0, description="Remove entries that were not used for this many days."
    )
    max_bytes: int | None = Field(
        None, ge=0, description="Remove entries, the longest unused first, until the rest fits."
    )
    all: bool = Field(False, description="Remove everything.")
