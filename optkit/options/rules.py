"""The rules of the release gate, as options."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from optkit.options.data import MaxDrop
from optkit.options.option import Duration, Options, Size

MaxP99 = Annotated[Duration, Field(description="99 % quantile of the latency, at most, as 20ms.")]


class Rules(Options):
    """The limits that a candidate must keep: keys of a recipe's ``gate:`` and options of ``optkit gate``."""

    group: ClassVar[str] = "Rules"

    max_drop: MaxDrop | None = None
    min_speedup: float | None = Field(None, gt=0, description="Speed-up over the baseline, at least, as 1.5.")
    max_slowdown: float | None = Field(None, gt=0, description="Slowdown against the baseline, at most, as 1.05.")
    max_p99: MaxP99 | None = None
    min_throughput: float | None = Field(None, gt=0, description="Samples per second, at least.")
    max_size_ratio: float | None = Field(None, gt=0, description="Size as a share of the baseline's, at most, as 0.5.")
    max_memory: Annotated[Size, Field(description="Peak resident memory, at most, as 500MB.")] | None = None

    @property
    def given(self) -> dict[str, float]:
        """The rules that were given, with their limits."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}

    def over(self, others: Rules) -> Rules:
        """Join two sets of rules; where both have a limit, it is the one given here."""
        return Rules.model_validate(others.given | self.given)
