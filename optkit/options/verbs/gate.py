"""Options of ``gate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from optkit.options.data import Data, MetricOption
from optkit.options.measuring import BatchOption, Device, MeasurementOptions, Precision, RunTarget, TimeLimit
from optkit.options.option import Place, Spelling
from optkit.options.rules import Rules
from optkit.options.source import ModelSource, Seed


class GateCommand(
    Rules,
    Data,
    MetricOption,
    RunTarget,
    Device,
    BatchOption,
    MeasurementOptions,
    Precision,
    TimeLimit,
    ModelSource,
    Seed,
):
    """All options of the verb in Python."""

    group: ClassVar[str] = "Models"

    candidate: Annotated[str | Path | None, Spelling(argument=True, metavar="CANDIDATE")] = Field(
        None, description="A model, a bundle or MODEL@TARGET; of a record, a row."
    )
    baseline: Annotated[str | Path | None, Spelling(metavar="MODEL")] = Field(
        None, description="Model that it is compared with; of a record, the model that it chose."
    )
    record: Place | None = Field(
        None, description="Judge a saved run or comparison; measured anew if another machine made it."
    )
    retry: Annotated[bool, Spelling(hidden=True)] = Field(
        False, description="Measure three times as long where the first verdict is inconclusive."
    )


class GateLine(GateCommand):
    """All options of the command: also how it ends and what it writes."""

    group: ClassVar[str] = "Outcome"

    inconclusive: Literal["pass", "fail", "retry"] | None = Field(
        None, description="Outcome of an inconclusive verdict; by default exit code 5."
    )
    junit: Place | None = Field(None, description="Write JUnit XML, a case for each rule.")
    summary: Place | None = Field(None, description="Write Markdown for a CI job's page.")
