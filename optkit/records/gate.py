"""What the gate found: each rule with its figure, its limit and how it ended."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.comparison import Comparison
from optkit.records.record import Interval, Record, Root

Verdict = Literal["pass", "fail", "inconclusive"]


class RuleRecord(Record):
    """One rule. ``figure`` is what was found, with its interval; null where there is none, and ``reason`` says why."""

    rule: str
    """The option's name without dashes in front: ``max-drop``."""
    verdict: Verdict
    figure: Interval | None = None
    limit: float | None = None
    unit: Literal["ratio", "seconds", "bytes", "per second", "metric"] = "ratio"
    reason: str
    """The sentence that a person reads."""


class Judgement(Record):
    """A candidate against a baseline. ``verdict`` is the worst of the rules': fail, inconclusive, pass."""

    candidate: str
    baseline: str
    verdict: Verdict
    rules: list[RuleRecord]


class Gate(Judgement, Root):
    """Whether a candidate may be released: the judgement, and the comparison that it rests on."""

    schema_: Literal["optkit.gate/1"] = Field("optkit.gate/1", alias="schema")
    comparison: Comparison
    notes: list[Note] = Field(default_factory=list)
