"""Options on running and measuring models."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from optkit.options.option import Options
from optkit.targets.table import DEFAULT

Scenario = Literal["single-stream", "multi-stream", "offline", "server"]
"""Ways to put load on, named as MLPerf names them."""
Seconds = Annotated[float, Field(gt=0, le=86_400, description="Measuring time per candidate, at most.")]

TargetName = Annotated[str, Field(description="onnxruntime, openvino or tensorrt.")]

_MEASURING = "Measuring"


class TargetOption(Options):
    """The target that a result is made for."""

    group: ClassVar[str] = "Target"

    target: TargetName = DEFAULT


class RunTarget(Options):
    """The target that models run on."""

    group: ClassVar[str] = "Target"

    target: str | None = Field(
        None, description="onnxruntime, openvino, tensorrt or torch; by default chosen by the model's format."
    )


class Threads(Options):
    """Threads."""

    group: ClassVar[str] = "Target"

    threads: int | None = Field(None, ge=1, description="Threads per session; by default all cores allowed.")


class Device(Threads):
    """The device, and threads."""

    device: Literal["cpu", "cuda"] | None = Field(
        None, description="Device to run on; by default a bundle's own, else the CPU."
    )


class BatchOption(Options):
    """The batch size."""

    group: ClassVar[str] = _MEASURING

    batch: int = Field(1, ge=1, description="Samples per inference.")


class MeasurementOptions(Options):
    """Measuring time."""

    group: ClassVar[str] = _MEASURING

    seconds: Seconds = 10.0


class Precision(Options):
    """The precision at which measuring ends."""

    group: ClassVar[str] = _MEASURING

    precision: float = Field(
        0.01, gt=0, description="Stop once every ratio's 95 % interval is within this share of it."
    )


class TimeLimit(Options):
    """The limit on one answer of a model."""

    group: ClassVar[str] = _MEASURING

    time_limit: float = Field(600.0, gt=0, description="Seconds without an answer after which a model counts as hung.")


class ShortMeasurement(Options):
    """Measuring time, where measuring is not all of the work."""

    group: ClassVar[str] = _MEASURING

    seconds: Seconds = 5.0


class Proof(ShortMeasurement, Threads):
    """The comparison of a transformed model with its source."""

    measure: bool = Field(True, description="Compare the result with the model that came in.")
