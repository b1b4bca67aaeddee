"""The rules of the gate."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from optkit import units
from optkit.records.record import Record

_Seconds = Annotated[float, BeforeValidator(units.parse_seconds, json_schema_input_type=float | str), Field(gt=0)]


_Bytes = Annotated[int, BeforeValidator(units.parse_bytes, json_schema_input_type=int | str), Field(gt=0)]


_Ratio = Annotated[float, Field(gt=0)]


class Rules(Record):
    """What a candidate must keep; the keys of a recipe's ``gate:`` and, with dashes, the options of ``optkit gate``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    max_drop: Annotated[float, Field(ge=0)] | None = None
    """The largest loss of quality, in the metric's own units."""
    min_speedup: _Ratio | None = None
    """How many times as fast as the baseline."""
    max_slowdown: _Ratio | None = None
    """How many times as slow as the baseline at most: 1.05."""
    max_p99: _Seconds | None = None
    """The 99 % quantile of the latency: ``20ms``."""
    min_throughput: _Ratio | None = None
    """Samples per second."""
    max_size_ratio: _Ratio | None = None
    """Its size as a share of the baseline's."""
    max_memory: _Bytes | None = None
    """Peak resident memory: ``500MB``."""

    @property
    def given(self) -> dict[str, float]:
        """The rules that were given, with their limits."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}

    def over(self, others: Rules) -> Rules:
        """These rules, and of ``others`` those that are not given here."""
        return Rules.model_validate(others.given | self.given)
