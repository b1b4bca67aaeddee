"""The record of a search: every candidate with its figures or its error, and what was decided about it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from optkit.options.verbs.optimize import Goal
from optkit.records.comparison import Row
from optkit.records.layers import Sensitivity
from optkit.records.model import DatasetRecord
from optkit.records.record import Record

Phase = Literal["float", "broad", "trimmed", "repair", "mixed", "trained", "options"]
"""Phases of a search, in order: the float model on each target; each method in its plain form; the same without the
layers that integers slow down; another method where one lost too much; the most damaged layers in float; training; and
runtime options."""


class TrialRecord(Record):
    """One candidate: its stages, the figures of a short screening, and the decision about it."""

    phase: Phase
    """The phase of the search that proposed it: ``float`` (not quantized), ``broad`` (a method in its plain form),
    ``trimmed`` (without the layers that integers slow down), ``repair`` (another method in place of one that lost too
    much), ``mixed`` (the most damaged layers in float), ``trained`` (pruned or fine-tuned), ``options`` (other runtime
    options).
    """
    stages: list[dict[str, Any]]
    """The stages that make it, each as one name with the fields that differ from their defaults."""
    row: Row
    """Figures of the screening, measured on the selection samples, which the final comparison does not use."""
    speed: float | None = None
    """The baseline's fastest inference over this one's, above 1 is faster: the steadiest figure of a screening too
    short for an interval. Null where the candidate failed.
    """
    seconds: float
    """Seconds to make and to screen the candidate; of candidates that share a screening, an equal part each."""
    after: float = 0.0
    """Seconds from the beginning of the search to the end of the screening."""
    decision: str = ""
    """The reason why the candidate is in the final comparison, or is not."""
    final: bool = False
    """True if the candidate is in the final comparison."""


class SearchRecord(Record):
    """The goal of a search, all that was tried, and the reason why it ended."""

    goal: Goal
    """The figure that the result is to be best at: latency, throughput, size on disk, or peak memory."""
    budget: float
    """Seconds that the search was given."""
    max_size: int | None = None
    """The largest size allowed on disk, in bytes; null where none was given."""
    max_p99: float | None = None
    """The largest 99 % quantile of the latency allowed, in seconds; null where none was given."""
    trials: list[TrialRecord] = Field(default_factory=list)
    """Every candidate, in the order in which it was tried."""
    sensitivity: Sensitivity | None = None
    """The damage that INT8 does to each layer; null unless a fast candidate lost too much."""
    in_float: list[str] = Field(default_factory=list)
    """Names of the layers that the result keeps in float."""
    selection: DatasetRecord
    """The samples that decisions were made on."""
    ended: str
    """The reason why the search ended: the time was up, or nothing was left to try."""
