"""Options on data to evaluate, train and calibrate with, and on quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.option import Options, Spelling

DataPath = Annotated[
    str | Path,
    Spelling(metavar="DATA"),
    Field(description=".npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE."),
]
MaxDrop = Annotated[float, Field(ge=0, description="Largest loss allowed, in the metric's own units.")]


class Data(Options):
    """Data to evaluate with, where there is some."""

    group: ClassVar[str] = "Data"

    data: DataPath | None = None


class RequiredData(Options):
    """Data to evaluate with."""

    group: ClassVar[str] = "Data"

    data: DataPath


class TrainingData(Options):
    """Data to train on."""

    group: ClassVar[str] = "Data"

    train_data: Annotated[str | Path | None, Spelling(metavar="DATA")] = Field(
        None, description="Training data, when it is not to be split off --data."
    )


class CalibrationData(Options):
    """Data to calibrate with."""

    group: ClassVar[str] = "Data"

    calibration: Annotated[str | Path | None, Spelling(metavar="DATA")] = Field(
        None, description="Calibration data, when it is not to be split off --data."
    )


class CalibrationSize(Options):
    """Number of samples to calibrate with."""

    group: ClassVar[str] = "Data"

    calibration_samples: int = Field(300, ge=1, description="Calibration samples, at most.")


class MetricOption(Options):
    """The metric."""

    group: ClassVar[str] = "Quality"

    metric: Annotated[str | None, Spelling(metavar="METRIC[:OUTPUT]")] = Field(
        None,
        description="accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity "
        "to the baseline). By default chosen from the data.",
    )


class LossOptions(Options):
    """The loss of quality that is allowed."""

    group: ClassVar[str] = "Quality"

    max_drop: MaxDrop | None = None
