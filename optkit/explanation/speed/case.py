"""What is known of a candidate and its baseline when it is asked which of them is slower, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optkit.explanation.speed.alignment import Pair, total
from optkit.explanation.speed.integer_regions import Island
from optkit.formats.layers import Layer, Layers
from optkit.formats.operators import Operator, Profile, plain
from optkit.measurement.candidate import Candidate
from optkit.system import fingerprint

_WORTH = 0.02
"""Share of the slower inference from which on a cause is worth a line."""


@dataclass(frozen=True)
class Side:
    """One of the two: what ran, what its file says, its operators, and how long an inference takes unwatched."""

    candidate: Candidate
    layers: Layers
    profile: Profile
    seconds: float

    @property
    def outside(self) -> float:
        """Seconds in no operator."""
        return max(0.0, self.seconds - total(self.profile.operators))

    def layer(self, name: str) -> Layer | None:
        """What the file says of a layer."""
        return self.layers.by_name.get(name) or self.layers.by_name.get(plain(name))


@dataclass(frozen=True)
class Case:
    """Both sides, layer by layer, and the machine's instruction sets; whether the other runtime opens the baseline."""

    baseline: Side
    candidate: Side
    pairs: Sequence[Pair]
    islands: Sequence[Island]
    isa: frozenset[str]
    elsewhere: bool = True

    @property
    def worth(self) -> float:
        """Seconds from which on a cause is worth a line."""
        return _WORTH * max(self.baseline.seconds, self.candidate.seconds)

    @property
    def slow_sums(self) -> bool:
        """Whether this is an x86 CPU without instructions for sums of 8-bit products."""
        return fingerprint.saturates(self.isa)

    @property
    def integers(self) -> list[Operator]:
        """The candidate's operators in integers."""
        return [each for each in self.candidate.profile.operators if each.integer]
