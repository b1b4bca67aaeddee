"""The contract of a stage: one transformation of a model into a model.

A stage is a frozen, strict pydantic model whose fields are the recipe's keys and the options of its command. It writes
below ``context.workdir`` only and never changes its input. Notes name the parts of the model that it left alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from optkit import lazy
from optkit.data.dataset import Dataset
from optkit.formats.model import Model
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.quantization.range_cache import RangeCache
from optkit.targets.table import DEFAULT
from optkit.training.setup import TrainingSetup

STAGES = {
    "export": "optkit.stages.export:Export",
    "prune": "optkit.stages.prune:Prune",
    "distill": "optkit.stages.distill:Distill",
    "fuse": "optkit.stages.fuse:Fuse",
    "quantize": "optkit.stages.quantize:Quantize",
    "compile": "optkit.stages.compile:Compile",
}


@dataclass(frozen=True)
class Context:
    """The surroundings of a stage: data, target and folders.

    ``workdir`` is an empty folder of its own. ``evaluation`` shares no sample with ``calibration`` and ``training``.
    ``target`` is the runtime of the result, with ``threads`` threads. ``original`` is the model that the chain of
    stages began with: the teacher of smaller models. ``metric`` measures quality. ``checkpoints`` is a folder that
    outlives a killed run, for long work; ``deadline`` ends such work, in seconds of the monotonic clock.
    """

    workdir: Path
    calibration: Dataset | None = None
    evaluation: Dataset | None = None
    target: str = DEFAULT
    seed: int = 0
    progress: Progress = no_progress
    training: Dataset | None = None
    original: Model | None = None
    metric: str | None = None
    threads: int | None = None
    checkpoints: Path | None = None
    deadline: float | None = None
    ranges: RangeCache = field(default_factory=RangeCache)
    """Calibration ranges for the stages of later contexts that share it."""

    def training_setup(self) -> TrainingSetup:
        """Return the part of the context that training needs."""
        return TrainingSetup(
            self.training, self.original, self.metric, self.seed, self.checkpoints, self.deadline, self.progress
        )


@dataclass(frozen=True)
class Outcome:
    """A stage's result: the model it wrote below the workdir, notes for the user, and figures for the record.

    ``engine`` and ``method`` name the library and its method; ``engine_seconds`` is the time inside the library.
    """

    model: Model
    notes: tuple[Note, ...] = ()
    engine: str | None = None
    method: str | None = None
    engine_seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Interrupted(KeyboardInterrupt):
    """An interruption of a stage that has a result already: ``finish`` makes a model of the best so far."""

    def __init__(self, finish: Callable[[], Model]) -> None:
        super().__init__()
        self.finish = finish


class Stage(BaseModel, ABC):
    """One transformation. Members differ in their fields, in ``check`` and in ``apply``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    needs_target: ClassVar[bool] = True
    """True if the result depends on ``context.target``; if not, targets share it in the store."""
    needs_calibration: ClassVar[bool] = False
    """True if the result depends on ``context.calibration``."""

    @property
    def takes_torch(self) -> bool:
        """True if the stage works on a torch model as it is, so that none need be exported before."""
        return False

    @property
    def makes_torch(self) -> bool:
        """True if the stage's result is a torch model, to be exported after."""
        return False

    def makes(self, model: Model) -> str:
        """Return the format of the result, where it is a torch model."""
        return model.format

    @property
    def trains(self) -> bool:
        """True if the stage learns from ``context.training``."""
        return False

    @property
    def reads(self) -> tuple[Path, ...]:
        """Files besides the model and the data that the result depends on."""
        return ()

    def beside(self, folder: Path) -> Stage:
        """Take relative paths in fields from ``folder``; the default has none."""
        return self

    def check(self, model: Model, context: Context) -> None:
        """Refuse before work starts, with an OptkitError that says why. The default refuses nothing."""

    @abstractmethod
    def apply(self, model: Model, context: Context) -> Outcome:
        """Transform ``model``. Raises OptkitError."""


def stage_class(name: str) -> type[Stage]:
    """Find the class of the stage called ``name``. Raises UsageError for an unknown one."""
    found: type[Stage] = lazy.resolve(STAGES, name, kind="stage")
    return found
