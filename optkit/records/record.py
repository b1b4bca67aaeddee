"""The versioned records of everything measured or decided: the product of a run, read by reports and by the gate.

Seconds and bytes; ratios are baseline over candidate for time, so above one is faster; ``null`` is unknown.
Each root record has a ``schema``. History: ``optkit.*/1``, the first.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen, strict record."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, populate_by_name=True)


class Root(Record):
    """A record that stands alone in a file."""

    def to_json(self) -> str:
        """The record as indented JSON text; it reads back equal."""
        return self.model_dump_json(indent=2)


class Interval(Record):
    """An estimate with its interval; ``confidence`` is the interval's nominal coverage."""

    value: float
    low: float
    high: float
    confidence: float = 0.95
