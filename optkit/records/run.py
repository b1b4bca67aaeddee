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


class StageRecord(Record):
    """One stage as it was carried out. ``fields`` are the stage's own; ``cached`` says it came from the store."""

    stage: str
    fields: dict[str, Any]
    target: str | None
    key: str
    cached: bool = False
    engine: str | None = None
    method: str | None = None
    seconds: float
    engine_seconds: float | None = None
    source: ModelRecord
    result: ModelRecord
    notes: list[Note] = Field(default_factory=list)
    facts: dict[str, Any] = Field(default_factory=dict)


class Transformation(Root):
    """What one of the verbs ``export``, ``quantize``, ``compile`` answers."""

    schema_: Literal["optkit.transformation/1"] = Field("optkit.transformation/1", alias="schema")
    output: str
    stage: StageRecord
    training: DatasetRecord | None = None
    calibration: DatasetRecord | None = None
    comparison: Comparison | None = None
    notes: list[Note] = Field(default_factory=list)


class Branch(Record):
    """The stages of a run for one target and the bundle they end in; or why they failed."""

    target: str
    stages: list[StageRecord] = Field(default_factory=list)
    bundle: str | None = None
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None


class Run(Root):
    """One execution of a recipe."""

    schema_: Literal["optkit.run/1"] = Field("optkit.run/1", alias="schema")
    recipe: dict[str, Any]
    recipe_path: str
    optkit: str
    started: str
    """ISO 8601, UTC."""
    seconds: float
    model: ModelRecord
    training: DatasetRecord | None = None
    calibration: DatasetRecord | None = None
    evaluation: DatasetRecord | None = None
    branches: list[Branch]
    comparison: Comparison | None = None
    chosen: str | None = None
    """The row that is the result: the fastest inside the bound. The baseline when nothing beat it."""
    search: SearchRecord | None = None
    """How the recipe was found, where ``optimize`` searched it."""
    gate: Judgement | None = None
    """How the chosen row did by the rules of the recipe's ``gate``; null where the recipe has none."""
    machine: Machine
    notes: list[Note] = Field(default_factory=list)


class PlannedStage(Record):
    """One stage as it would be carried out.

    ``cached`` is null where that shows only once the stages before it have run; ``refused`` says why it cannot work.
    """

    stage: str
    fields: dict[str, Any]
    key: str | None = None
    cached: bool | None = None
    refused: str | None = None
    notes: list[Note] = Field(default_factory=list)


class PlannedBranch(Record):
    """The stages for one target, under the name that their result has in tables."""

    name: str
    target: str
    stages: list[PlannedStage]


class Plan(Root):
    """What a recipe would do, and which of it is in the store already."""

    schema_: Literal["optkit.plan/1"] = Field("optkit.plan/1", alias="schema")
    recipe: dict[str, Any]
    recipe_path: str
    model: ModelRecord
    training: DatasetRecord | None = None
    calibration: DatasetRecord | None = None
    evaluation: DatasetRecord | None = None
    branches: list[PlannedBranch]
    notes: list[Note] = Field(default_factory=list)


class CacheEntry(Record):
    """A result of a stage in the store; ``used`` is ISO 8601, UTC. An unreadable one has no stage."""

    key: str
    stage: str | None
    target: str | None
    size_bytes: int
    used: str


class Cache(Root):
    """The store's entries, or those that were removed from it."""

    schema_: Literal["optkit.cache/1"] = Field("optkit.cache/1", alias="schema")
    path: str
    entries: list[CacheEntry]
    removed: list[CacheEntry] = Field(default_factory=list)
    size_bytes: int
