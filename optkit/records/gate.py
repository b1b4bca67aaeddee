"""Records of the release gate: each rule with its figure, its limit and its verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.comparison import Comparison
from optkit.records.record import Interval, Record, Root

GateVerdict = Literal["pass", "fail", "inconclusive"]


class RuleRecord(Record):
    """One rule of the gate and its verdict."""

    rule: str
    """The option's name without dashes in front: ``max-drop``; ``runs`` for a candidate that failed."""
    verdict: GateVerdict
    """``pass`` where all of the figure's interval keeps the limit, ``fail`` where none of it does, ``inconclusive``
    where the limit lies inside the interval or no figure was measured.
    """
    figure: Interval | None = None
    """The measured figure with its interval, in ``unit``; null where there is none, and ``reason`` says why."""
    limit: float | None = None
    """The limit, in ``unit``; null for the rule ``runs``."""
    unit: Literal["ratio", "seconds", "bytes", "per second", "metric"] = "ratio"
    """The unit of ``figure`` and ``limit``; ``metric`` stands for the units of the comparison's metric."""
    reason: str
    """The sentence that the user reads."""


class Judgement(Record):
    """The verdict on a candidate against a baseline."""

    candidate: str
    """The candidate's row, by name and target: ``int8 on openvino``."""
    baseline: str
    """The baseline's row, by name and target."""
    verdict: GateVerdict
    """The worst verdict among the rules: ``fail``, then ``inconclusive``, then ``pass``."""
    rules: list[RuleRecord]
    """The rules that were given; without any, the default: no slower than the baseline and no worse."""


class Gate(Judgement, Root):
    """The verdict on releasing a candidate, with the comparison that it rests on."""

    schema_: Literal["optkit.gate/1"] = Field("optkit.gate/1", alias="schema")
    """Kind of the record and version of its format."""
    comparison: Comparison
    """The figures that the rules were applied to, measured now or read from a saved record."""
    notes: list[Note] = Field(default_factory=list)
    """Notes about the judgement, and those of the comparison."""
