"""Two profiles side by side: what is the same layer on both, by its name or by the tensor that it makes.

Runtimes cut a model into operators each in their way. So operators of both sides that share a layer belong together,
and what shares none (conversions, mostly) is put together by kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from optkit.formats.operators import WEIGHTED, Operator, Profile, family, plain
from optkit.records.explanation import Family

_CONVERSIONS = re.compile(r"(de|^|_|/|\.)quantize(linear)?|/fq_|fakequantize", re.IGNORECASE)
"""Names of layers that several operators may share."""


@dataclass(frozen=True)
class Pair:
    """A layer on both sides, or all operators of a kind (``matched`` false); a side may have none."""

    layer: str
    matched: bool
    baseline: tuple[Operator, ...]
    candidate: tuple[Operator, ...]

    @property
    def before(self) -> float:
        """Seconds in the baseline."""
        return total(self.baseline)

    @property
    def after(self) -> float:
        """Seconds in the candidate."""
        return total(self.candidate)

    @property
    def family(self) -> Family:
        return _main((*self.baseline, *self.candidate)).family

    @property
    def integer(self) -> bool:
        """Whether the candidate computes it in integers, and the baseline does not."""
        return bool(self.candidate) and _main(self.candidate).integer and not _integer(self.baseline)


def total(operators: Iterable[Operator]) -> float:
    """Seconds of all of them."""
    return sum(operator.seconds for operator in operators)


def precision(operators: Sequence[Operator]) -> str | None:
    """What the one with most arithmetic computes in."""
    return _main(operators).precision if operators else None


def pairs(baseline: Profile, candidate: Profile) -> list[Pair]:
    """All operators of both, each in one pair, in the order of the baseline and then of the candidate."""
    sides = (baseline.operators, candidate.operators)
    shared = set.intersection(*({name for each in side for name in _names(each)} for side in sides))
    groups = _Groups()
    for side in sides:
        for operator in side:
            groups.join([name for name in _names(operator) if name in shared])
    layers: dict[str, tuple[list[Operator], list[Operator]]] = {}
    for number, side in enumerate(sides):
        for operator in side:
            name = next((name for name in _names(operator) if name in shared), None)
            key = f"kind {operator.kind}" if name is None else f"layer {groups.root(name)}"
            layers.setdefault(key, ([], []))[number].append(operator)
    return [_pair(key, *found) for key, found in layers.items()]


def _pair(key: str, baseline: list[Operator], candidate: list[Operator]) -> Pair:
    if key.startswith("kind "):
        return Pair(key.removeprefix("kind "), matched=False, baseline=tuple(baseline), candidate=tuple(candidate))
    named = _main(baseline or candidate)
    return Pair(plain(named.layers[0]), matched=True, baseline=tuple(baseline), candidate=tuple(candidate))


def _names(operator: Operator) -> Iterator[str]:
    """What it may be known by on the other side."""
    if operator.family == "conversion":
        return
    for name in (*operator.layers, *operator.tensors):
        if not _CONVERSIONS.search(name):
            yield plain(name)


def _main(operators: Sequence[Operator]) -> Operator:
    """The one with most arithmetic."""
    return max(operators, key=lambda each: (each.family in WEIGHTED, each.family != "conversion", each.seconds))


def _integer(operators: Sequence[Operator]) -> bool:
    return bool(operators) and _main(operators).integer


class _Groups:
    """Names that belong together."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def root(self, name: str) -> str:
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def join(self, names: Sequence[str]) -> None:
        roots = [self.root(name) for name in names]
        for root in roots[1:]:
            self._parents[root] = roots[0]


def kinds(operators: Iterable[Operator]) -> list[str]:
    """The operators' kinds, each once, in order."""
    return list(dict.fromkeys(operator.kind for operator in operators))


def by_family(profile: Profile) -> dict[str, float]:
    """Seconds by sort of work."""
    found: dict[str, float] = {}
    for operator in profile.operators:
        name = family(operator.kind)
        found[name] = found.get(name, 0.0) + operator.seconds
    return found
