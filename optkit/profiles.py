"""What each operator of a candidate takes, measured in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import layers
from optkit.errors import UsageError
from optkit.operators import Profile, plain
from optkit.target import target
from optkit.tensors import Arrays
from optkit.worker import Candidate, Worker

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


def layer_seconds(candidate: Candidate, feeds: Sequence[Arrays], *, seconds: float = SECONDS) -> dict[str, float]:
    """Mean seconds per inference of each layer, by the name of its node in the model's file.

    What was fused into a layer counts with it: of all nodes that an operator is, the one with most arithmetic is named.
    Operators that are no node of the file (conversions, reorders) are left out. Raises OptkitError.
    """
    file = layers.of(candidate.model)
    found: dict[str, float] = {}
    for operator in measure(candidate, feeds, seconds=seconds).operators:
        if operator.layers:
            named = map(file.name_of, (*operator.layers, *operator.tensors))
            name = next(filter(None, named), plain(operator.layers[0]))
            found[name] = found.get(name, 0.0) + operator.seconds
    return found
