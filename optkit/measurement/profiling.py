"""What each operator of a candidate takes, measured in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.errors import UsageError
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.targets.target import target

SECONDS = 1.0
"""For how long operators are watched, warming up included."""


def check(candidate: Candidate) -> None:
    """Raise UsageError where the candidate's target does not tell what operators take."""
    runtime = target(candidate.target)
    if not runtime.tells_operators:
        raise UsageError(
            f"{candidate.name}: {candidate.target} does not tell what each operator takes",
            hint=runtime.without_operators,
        )


def measure(candidate: Candidate, feeds: Sequence[Arrays], *, seconds: float = SECONDS) -> Profile:
    """Mean seconds per inference of each operator, on ``feeds`` in turn. Raises OptkitError."""
    check(candidate)
    with Worker(candidate) as worker:
        worker.load(feeds)
        return worker.profile(seconds)
