"""Options of ``optimize``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from optkit.options.data import CalibrationData, LossOptions, MetricOption, RequiredData
from optkit.options.measuring import BatchOption, MeasurementOptions, Threads
from optkit.options.option import Duration, Size, Spelling, Strings
from optkit.options.rules import MaxP99
from optkit.options.source import ModelOption, ModelSource, RequiredResult, Seed

Goal = Literal["latency", "throughput", "size", "memory"]


def _names(texts: Sequence[str]) -> list[str]:
    """``["a,b", "c"]`` -> ["a", "b", "c"]."""
    return [name for text in texts for name in text.split(",")]


class OptimizeCommand(
    ModelOption,
    RequiredResult,
    RequiredData,
    MetricOption,
    LossOptions,
    CalibrationData,
    Threads,
    BatchOption,
    MeasurementOptions,
    ModelSource,
    Seed,
):
    """All options of the verb."""

    group: ClassVar[str] = "Search"

    goal: Goal = Field("latency", description="Figure to make best.")
    targets: Annotated[Strings, Spelling(("--target",), parse=_names)] = Field(
        (), description="onnxruntime, openvino or tensorrt; by default all that are there."
    )
    budget: Duration = Field(600.0, description="Time to search, as 10m.")
    max_size: Annotated[Size, Field(description="Size on disk, at most, as 20MB.")] | None = None
    max_p99: MaxP99 | None = None
    train_data: Annotated[str | Path | None, Spelling(metavar="DATA", group="Data")] = Field(
        None, description="Also try pruning and training, on these data."
    )
    calibration_samples: Annotated[int | None, Spelling(group="Data")] = Field(
        None, ge=1, description="Calibration samples, at most; by default by the size of the model."
    )
