"""Options of ``benchmark``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from optkit.options.data import Data
from optkit.options.measuring import Device, MeasurementOptions, Precision, RunTarget, Scenario, TimeLimit
from optkit.options.option import Duration, Spelling
from optkit.options.source import ModelPaths, ModelSource, Seed


def _several(given: Any) -> Any:
    """One path -> a list of it."""
    return [given] if isinstance(given, str | Path) else given


def _sizes(given: Any) -> Any:
    """``1,8``, or one size -> a list of sizes."""
    if isinstance(given, str):
        parts = [part.strip() for part in given.split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ValueError("not a list of positive sizes, for example 1,8")
        return [int(part) for part in parts]
    return [] if given is None else [given] if isinstance(given, int) else given


class BenchmarkCommand(Data, Device, RunTarget, MeasurementOptions, Precision, TimeLimit, ModelSource, Seed):
    """All options of the verb."""

    group: ClassVar[str] = "Load"

    models: Annotated[
        ModelPaths,
        BeforeValidator(_several, json_schema_input_type=str | Path | Sequence[str | Path]),
        Spelling(argument=True, metavar="MODEL..."),
    ]
    scenario: Scenario = Field(
        "single-stream",
        description="single-stream: one inference after the other. multi-stream: 8 samples together. offline: the "
        "highest throughput over batches and sessions. server: queries arriving at random, at --rate or at the highest "
        "rate that keeps --max-p99.",
    )
    batch: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        BeforeValidator(_sizes, json_schema_input_type=int | Sequence[int] | str | None),
        Spelling(metavar="N,N", text=True),
        Field(strict=False),
    ] = Field((), description="Samples per inference; one size or several. By default 1, 8, or tried.")
    sessions: int | None = Field(None, ge=1, description="Sessions that run at once (offline, server); else tried.")
    rate: float | None = Field(None, gt=0, description="Queries per second that arrive (server).")
    max_p99: Annotated[Duration, Field(description="Find the highest rate that keeps it, as 20ms (server).")] | None = (
        None
    )
