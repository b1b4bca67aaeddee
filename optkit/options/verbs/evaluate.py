"""Options of ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.data import Metric, RequiredData
from optkit.options.measuring import Batch, Device, RunTarget
from optkit.options.option import Spelling
from optkit.options.source import Model, ModelSource, Seed


class EvaluateCommand(Model, RequiredData, Metric, RunTarget, Device, Batch, ModelSource, Seed):
    """All options of the verb."""

    group: ClassVar[str] = "Quality"

    reference: Annotated[str | Path | None, Spelling(metavar="MODEL")] = Field(
        None, description="Model whose outputs or quality count as right."
    )
