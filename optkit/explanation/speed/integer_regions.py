"""Integer regions of a mixed-precision graph: connected integer operators with the conversions at their boundary.

A single integer layer may be faster and still cost time, because its inputs and outputs must be converted. So layers
are judged together with the conversions around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optkit.explanation.speed.alignment import Pair, total
from optkit.formats.operators import Operator, Profile

_SLOWER = 1.1
"""Ratio from which on a layer counts as slower: times of operators vary by several percent."""


@dataclass(frozen=True)
class IntegerRegion:
    """A connected set of integer operators, with the conversions at its boundary."""

    operators: tuple[Operator, ...]
    conversions: tuple[Operator, ...]
    saved: float
    """Seconds per inference that the region saves against float, conversions included; negative where it loses."""
    slow_entry: tuple[Operator, ...] = ()
    """First layers of the region that are slower than in float: without them, the conversions move one layer down."""


def integer_regions(candidate: Profile, pairs: Sequence[Pair]) -> list[IntegerRegion]:
    """Find the candidate's integer regions; those that lose most come first."""
    operators = {each.name: each for each in candidate.operators}
    inside = {name for name, each in operators.items() if each.integer or each.family == "conversion"}
    neighbours: dict[str, set[str]] = {name: set() for name in inside}
    for name in inside:
        for source in inside & set(operators[name].sources):
            neighbours[name].add(source)
            neighbours[source].add(name)
    before = {each.name: pair for pair in pairs if pair.matched for each in pair.candidate}
    regions = []
    while inside:
        names = _reached(inside.pop(), neighbours)
        inside -= names
        members = [each for name, each in operators.items() if name in names]
        if any(each.integer for each in members):
            regions.append(_region(members, before))
    return sorted(regions, key=lambda region: region.saved)


def _reached(start: str, neighbours: dict[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = neighbours[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _region(members: Sequence[Operator], pairs: dict[str, Pair]) -> IntegerRegion:
    integers = tuple(each for each in members if each.integer)
    conversions = tuple(each for each in members if not each.integer)
    matched = {id(pair): pair for each in integers if (pair := pairs.get(each.name)) is not None}
    took = sum(pair.before for pair in matched.values())
    takes = sum(pair.after for pair in matched.values()) + total(conversions)
    takes += total(each for each in integers if each.name not in pairs)
    slow_entry = tuple(
        each
        for each in integers
        if each.weighted
        and (pair := pairs.get(each.name))
        and pair.after > _SLOWER * pair.before
        and _is_first(each, members)
    )
    return IntegerRegion(integers, conversions, took - takes, slow_entry)


def _is_first(operator: Operator, members: Sequence[Operator]) -> bool:
    """Return True if no member before ``operator`` computes: its inputs are only converted or moved."""
    known = {each.name: each for each in members}
    waiting = list(operator.sources)
    while waiting:
        source = known.get(waiting.pop())
        if source is not None and source.family not in ("conversion", "layout"):
            return False
        waiting += source.sources if source is not None and source.integer else ()
    return True
