"""Options of ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from optkit.options.data import Data, LossOptions, MetricOption, TrainingData
from optkit.options.measuring import Proof, TargetOption
from optkit.options.option import Options, Spelling
from optkit.options.source import ModelSource, ResultOption, Seed
from optkit.options.training import Schedule

Match = Literal["kl", "mse"]


class DistillOptions(Options):
    """The student and the losses: fields of the stage."""

    group: ClassVar[str] = "Distillation"

    student: Annotated[str | None, Spelling(metavar="FILE")] = Field(
        None, description="Weights file of a student to begin with."
    )
    student_code: Annotated[str | None, Spelling(metavar="FILE.py:CALLABLE")] = Field(
        None, description="Function that builds the student's module. This runs that file's code."
    )
    layers: int | None = Field(None, ge=1, description="Layers that an automatic student keeps; by default half.")
    match: Literal["auto"] | Match = Field(
        "auto", description="Loss on outputs: kl of softened classes, or mse of values; auto chooses by the metric."
    )
    temperature: float = Field(2.0, gt=0, description="Temperature that softens the classes of both models.")
    logits: float = Field(1.0, ge=0, description="Weight of the loss on the teacher's outputs.")
    hidden: float | None = Field(
        None, ge=0, description="Weight of the loss on outputs of matched layers; by default 1 where layers match."
    )
    attention: float | None = Field(
        None, ge=0, description="Weight of the loss on attention in matched layers; by default 0."
    )
    task: float | None = Field(
        None, ge=0, description="Weight of the loss on labels; by default 0.5 where the metric is of labels."
    )


class DistillCommand(
    ResultOption,
    DistillOptions,
    TargetOption,
    Data,
    TrainingData,
    MetricOption,
    LossOptions,
    Proof,
    Schedule,
    ModelSource,
    Seed,
):
    """All options of the verb."""

    teacher: Annotated[str | Path, Spelling(argument=True, metavar="TEACHER")] = Field(
        description="A torch model to learn from."
    )
