"""The record of a search: every candidate with its figures or its reason, and what was decided about it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from optkit.records.comparison import Row
from optkit.records.layers import Sensitivity
from optkit.records.model import DatasetRecord
from optkit.records.record import Record

Goal = Literal["latency", "throughput", "size", "memory"]
Phase = Literal["float", "broad", "trimmed", "repair", "mixed", "trained", "options"]
"""Float on each target; the methods in their plain form; these without the layers that integers slow down; another
method where one lost too much; layers that lose most given back to float; more of them, where too few samples tell of a
loss; what training makes of the best; runtime options."""


class TrialRecord(Record):
    """One candidate: the stages that make it, what a short look at it showed, and what became of it.

    The look's quality is on the selection samples, which the final comparison does not use. ``speed`` is the baseline's
    fastest inference over this one's: too short a look for an interval, but the steadiest figure on a busy machine.
    """

    phase: Phase
    stages: list[dict[str, Any]]
    row: Row
    speed: float | None = None
    seconds: float
    """What making it and looking at it took."""
    after: float = 0.0
    """Seconds from the beginning of the search to its figures."""
    decision: str = ""
    final: bool = False


class SearchRecord(Record):
    """What was looked for, everything that was tried, and why the search ended."""

    goal: Goal
    budget: float
    max_size: int | None = None
    max_p99: float | None = None
    trials: list[TrialRecord] = Field(default_factory=list)
    sensitivity: Sensitivity | None = None
    """What INT8 does to each layer, where a fast candidate lost too much."""
    in_float: list[str] = Field(default_factory=list)
    """The layers that the result gives back to float."""
    selection: DatasetRecord
    ended: str
