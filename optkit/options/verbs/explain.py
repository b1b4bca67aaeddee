"""Options of ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.data import Data, LossOptions, MetricOption
from optkit.options.measuring import BatchOption, RunTarget, ShortMeasurement, Threads, TimeLimit
from optkit.options.option import Spelling
from optkit.options.source import ModelSource, Seed


class ExplainCommand(
    Data, MetricOption, LossOptions, RunTarget, Threads, BatchOption, ShortMeasurement, TimeLimit, ModelSource, Seed
):
    """All options of the verb."""

    group: ClassVar[str] = "Models"

    baseline: Annotated[str | Path, Spelling(argument=True, metavar="BASELINE")] = Field(
        description="Model that the other is compared with."
    )
    candidate: Annotated[str | Path, Spelling(argument=True, metavar="CANDIDATE")] = Field(
        description="A model, a bundle or MODEL@TARGET."
    )
    calibration: Annotated[str | Path | None, Spelling(metavar="DATA")] = Field(
        None, description="Data that the candidate was calibrated with."
    )
