"""The versioned records of everything measured or decided: the product of a run, read by reports and by the gate.

Seconds and bytes; ratios are baseline over candidate for time, so above one is faster; ``null`` is unknown.
Each root record has a ``schema``. History: ``optkit.*/1``, the first.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen, strict record. The docstring under a field is its description in the JSON schema."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", serialize_by_alias=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Root(Record):
    """A record that stands alone in a file."""

    def to_json(self) -> str:
        """Write the record as indented JSON text; it reads back equal."""
        return self.model_dump_json(indent=2)


class Interval(Record):
    """An estimate with its interval."""

    value: float
    """The estimate, in the unit of the figure that has the interval."""
    low: float
    """The interval's lower end, in the same unit; equal to ``value`` where the figure is exact."""
    high: float
    """The interval's upper end, in the same unit; equal to ``value`` where the figure is exact."""
    confidence: float = 0.95
    """The interval's nominal coverage, from 0 to 1."""
