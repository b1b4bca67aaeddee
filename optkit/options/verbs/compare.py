"""Options of ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.data import Data, LossOptions, MetricOption
from optkit.options.measuring import BatchOption, Device, MeasurementOptions, Precision, RunTarget, TimeLimit
from optkit.options.option import Spelling
from optkit.options.source import ModelPaths, ModelSource, Seed


class CompareCommand(
    Data,
    MetricOption,
    LossOptions,
    RunTarget,
    Device,
    BatchOption,
    MeasurementOptions,
    Precision,
    TimeLimit,
    ModelSource,
    Seed,
):
    """All options of the verb."""

    group: ClassVar[str] = "Models"

    baseline: Annotated[str | Path, Spelling(argument=True, metavar="BASELINE")] = Field(
        description="Model that the others are compared with."
    )
    candidates: Annotated[ModelPaths, Spelling(argument=True, metavar="CANDIDATE...")]
