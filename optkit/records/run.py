"""The records of what was carried out, or would be: stages, branches, runs, plans, and what the store keeps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.comparison import Comparison
from optkit.records.gate import Judgement
from optkit.records.machine import Machine
from optkit.records.model import DatasetRecord, ModelRecord
from optkit.records.record import Record, Root
from optkit.records.search import SearchRecord


class EpochFacts(Record):
    """One pass over the training data."""

    epoch: int
    """Number of the epoch, from 1."""
    loss: float
    """Mean loss on the training data during the epoch."""
    held_out: float
    """Mean loss on the held-out data after the epoch."""
    metric: float | None = None
    """The metric on the held-out data, in its own units; null where it has no value."""
    learning_rate: float
    """Learning rate at the end of the epoch."""
    seconds: float
    """Seconds since the training began, or went on from a checkpoint, at the end of the epoch."""


class TrainingFacts(Record):
    """One training within a stage."""

    label: str
    """The training's name: ``distill``, ``qat``, or the pruning step that it follows."""
    metric: str = ""
    """The metric that is measured on the held-out data."""
    learning_rate: float = 0.0
    """The highest learning rate."""
    device: str = "cpu"
    """The device that it ran on: ``cpu`` or ``cuda``."""
    precision: str = "float32"
    """The dtype of the forward pass: ``float32``, or ``bfloat16`` or ``float16`` under autocast."""
    steps: int = 0
    """Number of training steps, each of one batch."""
    resumed: int | None = None
    """The step of the checkpoint that it went on from; null where it was not interrupted."""
    discarded: str | None = None
    """The reason why the checkpoint of an interrupted training was not used; null where there was none, or it was."""
    best: int = 0
    """The epoch whose weights were kept; 0 where none was better than the start."""
    stopped_early: bool = False
    """True if it stopped before the last epoch, as the held-out loss no longer fell."""
    epochs: list[EpochFacts] = Field(default_factory=list)
    """The epochs, in order."""

    @property
    def kept(self) -> EpochFacts | None:
        """The epoch whose weights were kept; ``None`` where none was better than the start."""
        return self.epochs[self.best - 1] if self.best else None


class StageRecord(Record):
    """One stage as it was carried out."""

    stage: str
    """The stage's name: ``export``, ``prune``, ``distill``, ``fuse``, ``quantize`` or ``compile``."""
    fields: dict[str, Any]
    """The stage's options, every default made explicit."""
    target: str | None
    """The target that the result is meant for; null where all targets share the result."""
    key: str
    """The result's key in the store, SHA-256 in hexadecimal; empty where the store was not used."""
    cached: bool = False
    """True if the result came from the store; the figures are then those of the run that made it."""
    engine: str | None = None
    """The library that did the work; null where nothing was left to do, as for a model that is quantized already."""
    method: str | None = None
    """The method: ``int8 static``, ``torch.export``, ``channels``, …; null where nothing was left to do."""
    seconds: float
    """Seconds that the stage took."""
    engine_seconds: float | None = None
    """Seconds inside the library alone; null where nothing was left to do."""
    source: ModelRecord
    """The model that came in."""
    result: ModelRecord
    """The model that the stage made."""
    notes: list[Note] = Field(default_factory=list)
    """Choices of the stage, and what it left alone."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Figures of the stage; the keys are the stage's own. ``training`` lists the trainings of stages that train."""

    @property
    def trainings(self) -> list[TrainingFacts]:
        """The trainings within the stage, out of its facts."""
        return [TrainingFacts.model_validate(each) for each in self.facts.get("training", [])]


class Transformation(Root):
    """The result of one stage, carried out by ``export``, ``prune``, ``distill``, ``quantize`` or ``compile``."""

    schema_: Literal["optkit.transformation/1"] = Field("optkit.transformation/1", alias="schema")
    """Kind of the record and version of its format."""
    output: str
    """The file or folder that was written."""
    stage: StageRecord
    """The stage as it was carried out."""
    training: DatasetRecord | None = None
    """The samples that the stage learned from; null where it did not train."""
    calibration: DatasetRecord | None = None
    """The samples that calibration ranges were taken from; null where none were."""
    comparison: Comparison | None = None
    """The model that came in beside the result; null where nothing was measured."""
    notes: list[Note] = Field(default_factory=list)
    """Notes of the command; those of the stage are in ``stage``."""


class Branch(Record):
    """The stages of a run for one target, and the bundle that they made."""

    target: str
    """The target."""
    stages: list[StageRecord] = Field(default_factory=list)
    """The stages that were carried out, in order; those before the error where one failed."""
    bundle: str | None = None
    """The bundle's folder, of a recipe's run relative to the run's folder; null where there is none."""
    status: Literal["ok", "failed"] = "ok"
    """``failed`` where a stage failed."""
    reason: str | None = None
    """The error of a failed branch; null for others."""


class Run(Root):
    """One execution of a recipe, or one search for a recipe."""

    schema_: Literal["optkit.run/1"] = Field("optkit.run/1", alias="schema")
    """Kind of the record and version of its format."""
    recipe: dict[str, Any]
    """The recipe, every default made explicit; of a search, the recipe that makes its result again."""
    recipe_path: str
    """The recipe's file."""
    optkit: str
    """The version of optkit."""
    started: str
    """Time of the start, ISO 8601 in UTC."""
    seconds: float
    """Seconds that the run took."""
    model: ModelRecord
    """The model that came in."""
    training: DatasetRecord | None = None
    """The samples that stages learned from; null where none trains."""
    calibration: DatasetRecord | None = None
    """The samples that calibration ranges were taken from; null where no stage calibrates."""
    evaluation: DatasetRecord | None = None
    """The samples that quality was measured on; null without data."""
    branches: list[Branch]
    """The stages for each target; of a search, those of its result."""
    comparison: Comparison | None = None
    """The model that came in beside every result; null where nothing was compared."""
    chosen: str | None = None
    """The row that is the result: the fastest inside the bound. The baseline when nothing beat it."""
    search: SearchRecord | None = None
    """All that ``optimize`` tried; null for the run of a recipe."""
    gate: Judgement | None = None
    """The verdict on the chosen row by the rules of the recipe's ``gate``; null where the recipe has none."""
    machine: Machine
    """The machine that the run was made on."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about the run as a whole."""


class PlannedStage(Record):
    """One stage as it would be carried out."""

    stage: str
    """The stage's name."""
    fields: dict[str, Any]
    """The stage's options, every default made explicit."""
    key: str | None = None
    """The result's key in the store; null where it depends on a stage that has not run yet."""
    cached: bool | None = None
    """True if the result is in the store; null where that depends on a stage that has not run yet."""
    refused: str | None = None
    """The reason why the stage cannot work on this model; null where it can, or nobody knows yet."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about the stage."""


class PlannedBranch(Record):
    """The stages for one target."""

    name: str
    """The name that the result has in tables: ``int8``."""
    target: str
    """The target."""
    stages: list[PlannedStage]
    """The stages, in order."""


class Plan(Root):
    """The stages that a recipe would carry out, and their results that are in the store already."""

    schema_: Literal["optkit.plan/1"] = Field("optkit.plan/1", alias="schema")
    """Kind of the record and version of its format."""
    recipe: dict[str, Any]
    """The recipe, every default made explicit."""
    recipe_path: str
    """The recipe's file."""
    model: ModelRecord
    """The model that comes in."""
    training: DatasetRecord | None = None
    """The samples that stages would learn from; null where none trains."""
    calibration: DatasetRecord | None = None
    """The samples that calibration ranges would be taken from; null where no stage calibrates."""
    evaluation: DatasetRecord | None = None
    """The samples that quality would be measured on; null without data."""
    branches: list[PlannedBranch]
    """The stages for each target."""
    notes: list[Note] = Field(default_factory=list)
    """Stages that were added to the recipe's."""


class CacheEntry(Record):
    """A result of a stage in the store."""

    key: str
    """SHA-256 of everything that the result depends on, in hexadecimal; the name of the entry's folder."""
    stage: str | None
    """The stage that made it; null where the entry is unreadable."""
    target: str | None
    """The target that it was made for; null where all targets share it, or the entry is unreadable."""
    size_bytes: int
    """Bytes on disk."""
    used: str
    """Time when it was last written or served, ISO 8601 in UTC."""


class Cache(Root):
    """The entries of the store, and those that were removed from it."""

    schema_: Literal["optkit.cache/1"] = Field("optkit.cache/1", alias="schema")
    """Kind of the record and version of its format."""
    path: str
    """The store's folder."""
    entries: list[CacheEntry]
    """The entries that are in the store, the last used first."""
    removed: list[CacheEntry] = Field(default_factory=list)
    """The entries that this command removed."""
    size_bytes: int
    """Bytes on disk of ``entries``."""
