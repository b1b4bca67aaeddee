"""Islands of integers in a float graph: what lies between conversions, and whether it pays for them.

A single layer in integers may be faster and still cost time, as its inputs and outputs must be converted. So layers are
judged together with the conversions around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optkit.explanation.speed.alignment import Pair, total
from optkit.formats.operators import Operator, Profile

_SLOWER = 1.1
"""Times of operators vary by several percent."""


@dataclass(frozen=True)
class Island:
    """Operators in integers that hand integers to each other, and the conversions at their shores.

    ``saved`` is what an inference gains by them, negative where it loses. ``slow_shore`` are its first layers, where
    they are slower than in float: without them the conversions only come a layer later.
    """

    operators: tuple[Operator, ...]
    conversions: tuple[Operator, ...]
    saved: float
    slow_shore: tuple[Operator, ...] = ()


def of(candidate: Profile, pairs: Sequence[Pair]) -> list[Island]:
    """The candidate's islands, those that lose most first."""
    operators = {each.name: each for each in candidate.operators}
    inside = {name for name, each in operators.items() if each.integer or each.family == "conversion"}
    neighbours: dict[str, set[str]] = {name: set() for name in inside}
    for name in inside:
        for source in inside & set(operators[name].sources):
            neighbours[name].add(source)
            neighbours[source].add(name)
    before = {each.name: pair for pair in pairs if pair.matched for each in pair.candidate}
    islands = []
    while inside:
        names = _reached(inside.pop(), neighbours)
        inside -= names
        members = [each for name, each in operators.items() if name in names]
        if any(each.integer for each in members):
            islands.append(_island(members, before))
    return sorted(islands, key=lambda island: island.saved)


def _reached(start: str, neighbours: dict[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = neighbours[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _island(members: Sequence[Operator], pairs: dict[str, Pair]) -> Island:
    integers = tuple(each for each in members if each.integer)
    conversions = tuple(each for each in members if not each.integer)
    matched = {id(pair): pair for each in integers if (pair := pairs.get(each.name)) is not None}
    took = sum(pair.before for pair in matched.values())
    takes = sum(pair.after for pair in matched.values()) + total(conversions)
    takes += total(each for each in integers if each.name not in pairs)
    shore = tuple(
        each
        for each in integers
        if each.weighted
        and (pair := pairs.get(each.name))
        and pair.after > _SLOWER * pair.before
        and _first(each, members)
    )
    return Island(integers, conversions, took - takes, shore)


def _first(operator: Operator, members: Sequence[Operator]) -> bool:
    """Whether nothing computes on integers before it on the island: they are only converted and moved."""
    known = {each.name: each for each in members}
    waiting = list(operator.sources)
    while waiting:
        source = known.get(waiting.pop())
        if source is not None and source.family not in ("conversion", "layout"):
            return False
        waiting += source.sources if source is not None and source.integer else ()
    return True
