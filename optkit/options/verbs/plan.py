"""Options of ``plan``, and of all verbs that read a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.option import Options, Spelling, Strings


class PlanCommand(Options):
    """All options of the verb."""

    group: ClassVar[str] = "Recipe"

    recipe: Annotated[str | Path, Spelling(argument=True, metavar="RECIPE")] = Field(
        description="A recipe: a YAML file."
    )
    settings: Annotated[Strings, Spelling(("--set",), metavar="KEY=VALUE")] = Field(
        (), description="Put a value into the recipe: benchmark.seconds=5, targets.0=openvino."
    )
