"""Operator profiles of candidates, measured in a process of their own."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.errors import UsageError
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.targets.target import target

SECONDS = 1.0
"""Duration of a profile, warm-up included."""


def check(candidate: Candidate) -> None:
    """Raise UsageError if the candidate's target reports no times of operators."""
    runtime = target(candidate.target)
    if not runtime.tells_operators:
        raise UsageError(
            f"{candidate.name}: {candidate.target} does not report the time of each operator",
            hint=runtime.without_operators,
        )


def measure(candidate: Candidate, feeds: Sequence[Arrays], *, seconds: float = SECONDS) -> Profile:
    """Measure the mean seconds per inference of each operator, cycling through ``feeds``. Raises OptkitError."""
    check(candidate)
    with Worker(candidate) as worker:
        worker.load(feeds)
        return worker.profile(seconds)
