"""The options of the fake target: the times, outputs and faults of its sessions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from optkit.targets.options import RuntimeOptions


class FakeOptions(RuntimeOptions):
    """Times are seconds of the session's own clock."""

    seconds: float = 0.010
    """The time of an inference."""
    noise: float = 0.0
    """The standard deviation of the logarithm of that time."""
    error: float = 0.0
    """The standard deviation of the noise added to outputs."""
    seed: int = 0
    """The seed of noise and errors."""
    memory_bytes: int = 50_000_000
    """The peak of memory that a session reports."""
    threads: int = 1
    """Threads that a session reports."""
    stall: list[float] | None = Field(None, min_length=2, max_length=2)
    """``[number, seconds]``: the inference that takes so much longer."""
    operators: list[dict[str, Any]] = Field(default_factory=list)
    """The fields of each operator that ``profile`` tells of."""
    fault: Literal["refuse", "run", "crash", "out of memory", "hang"] | None = None
    """The failure of the session, when it is opened or at its first inference."""
