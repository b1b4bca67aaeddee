"""Measurements of a candidate and its baseline from which the causes of a speed difference are derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optkit.explanation.speed.alignment import Pair, total
from optkit.explanation.speed.integer_regions import IntegerRegion
from optkit.formats.layers import Layer, Layers
from optkit.formats.operators import Operator, Profile, plain
from optkit.measurement.candidate import Candidate
from optkit.system import fingerprint

_WORTH = 0.02
"""Share of the slower model's inference time from which on a cause is reported."""


@dataclass(frozen=True)
class Side:
    """Baseline or candidate, with its layers and its profile."""

    candidate: Candidate
    layers: Layers
    """The layers as the model's file describes them."""
    profile: Profile
    """The operators that the runtime executed."""
    seconds: float
    """Seconds per inference without the profiler."""

    @property
    def outside(self) -> float:
        """Seconds per inference outside operators."""
        return max(0.0, self.seconds - total(self.profile.operators))

    def layer(self, name: str) -> Layer | None:
        """Return the layer as the file describes it; ``None`` if the file has no layer of that name."""
        return self.layers.by_name.get(name) or self.layers.by_name.get(plain(name))


@dataclass(frozen=True)
class Case:
    """Both sides, aligned layer by layer."""

    baseline: Side
    candidate: Side
    pairs: Sequence[Pair]
    regions: Sequence[IntegerRegion]
    """The candidate's integer regions, those that lose most first."""
    isa: frozenset[str]
    """Instruction sets of the machine's CPU."""
    elsewhere: bool = True
    """True if the other runtime for ONNX opens the baseline."""

    @property
    def worth(self) -> float:
        """Seconds per inference from which on a cause is reported."""
        return _WORTH * max(self.baseline.seconds, self.candidate.seconds)

    @property
    def slow_sums(self) -> bool:
        """True on an x86 CPU without instructions for sums of 8-bit products (VNNI)."""
        return fingerprint.saturates(self.isa)

    @property
    def integers(self) -> list[Operator]:
        """The candidate's integer operators."""
        return [each for each in self.candidate.profile.operators if each.integer]
