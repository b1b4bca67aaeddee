"""Alignment of two profiles: operators of the same layer, found by layer name or output tensor.

Each runtime fuses a model into operators of its own. So operators of both profiles that share a layer are paired, and
operators that share none (mostly conversions) are paired by kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from optkit.formats.operators import WEIGHTED, Operator, Profile, family, plain
from optkit.records.explanation import Family

_CONVERSIONS = re.compile(r"(de|^|_|/|\.)quantize(linear)?|/fq_|fakequantize", re.IGNORECASE)
"""Names of conversions, which several operators may share, so that they identify no layer."""


@dataclass(frozen=True)
class Pair:
    """A layer in both profiles, or all operators of one kind that belong to no shared layer."""

    layer: str
    """The layer's name; the operators' kind where ``matched`` is false."""
    matched: bool
    """True if the operators share a layer."""
    baseline: tuple[Operator, ...]
    """The baseline's operators; may be empty."""
    candidate: tuple[Operator, ...]
    """The candidate's operators; may be empty."""

    @property
    def before(self) -> float:
        """Seconds per inference in the baseline."""
        return total(self.baseline)

    @property
    def after(self) -> float:
        """Seconds per inference in the candidate."""
        return total(self.candidate)

    @property
    def family(self) -> Family:
        """The family of the operator with the most arithmetic."""
        return _main((*self.baseline, *self.candidate)).family

    @property
    def integer(self) -> bool:
        """True if the candidate computes the layer in integers and the baseline does not."""
        return bool(self.candidate) and _main(self.candidate).integer and not _integer(self.baseline)


def total(operators: Iterable[Operator]) -> float:
    """Sum the operators' seconds."""
    return sum(operator.seconds for operator in operators)


def precision(operators: Sequence[Operator]) -> str | None:
    """Return the precision of the operator with the most arithmetic; ``None`` without operators."""
    return _main(operators).precision if operators else None


def pairs(baseline: Profile, candidate: Profile) -> list[Pair]:
    """Put every operator of both profiles into exactly one pair, in the order of the baseline, then the candidate."""
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
    """Yield the layer and tensor names by which the other profile may know the operator."""
    if operator.family == "conversion":
        return
    for name in (*operator.layers, *operator.tensors):
        if not _CONVERSIONS.search(name):
            yield plain(name)


def _main(operators: Sequence[Operator]) -> Operator:
    """Return the operator with the most arithmetic: one with weights first, then the slowest that is no conversion."""
    return max(operators, key=lambda each: (each.family in WEIGHTED, each.family != "conversion", each.seconds))


def _integer(operators: Sequence[Operator]) -> bool:
    return bool(operators) and _main(operators).integer


class _Groups:
    """Disjoint sets of names (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Return the representative of the name's set."""
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def join(self, names: Sequence[str]) -> None:
        """Merge the sets of these names."""
        roots = [self.root(name) for name in names]
        for root in roots[1:]:
            self._parents[root] = roots[0]


def kinds(operators: Iterable[Operator]) -> list[str]:
    """List the operators' kinds, each once, in order."""
    return list(dict.fromkeys(operator.kind for operator in operators))


def by_family(profile: Profile) -> dict[str, float]:
    """Sum the seconds per inference by operator family."""
    found: dict[str, float] = {}
    for operator in profile.operators:
        name = family(operator.kind)
        found[name] = found.get(name, 0.0) + operator.seconds
    return found
