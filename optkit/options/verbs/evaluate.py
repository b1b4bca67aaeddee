"""Options of ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.data import MetricOption, RequiredData
from optkit.options.measuring import BatchOption, Device, RunTarget
from optkit.options.option import Spelling
from optkit.options.source import ModelOption, ModelSource, Seed


class EvaluateCommand(ModelOption, RequiredData, MetricOption, RunTarget, Device, BatchOption, ModelSource, Seed):
    """All options of the verb."""

    group: ClassVar[str] = "Quality"

    reference: Annotated[str | Path | None, Spelling(metavar="MODEL")] = Field(
        None, description="Model whose outputs or quality count as right."
    )
