"""Attention heads: which layers make the queries of how many heads, and what else in a module says how many."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optkit.training import features


@dataclass(frozen=True)
class Heads:
    """One attention: the layers that make query and key, by name, the number of heads and the width of each."""

    query: str
    key: str
    count: int
    width: int


def found(module: Any, inputs: tuple[Any, ...]) -> list[Heads]:
    """The attentions that one run shows, in order; those whose query no single layer makes are left out.

    Told by torch's own scaled dot-product attention, which models written out in matrix products do not use.
    """
    names = {id(parameter): name.rpartition(".")[0] for name, parameter in module.named_parameters()}
    seen: list[Heads] = []

    def note(asked: Mapping[str, Any]) -> None:
        query, key = asked["query"], asked["key"]
        makers = [_maker(tensor, names) for tensor in (query, key)]
        if query.ndim == 4 and None not in makers:
            seen.append(Heads(str(makers[0]), str(makers[1]), int(query.shape[1]), int(query.shape[3])))

    with features.attending(note):
        module(*inputs)
    return seen


def _maker(tensor: Any, names: dict[int, str]) -> str | None:
    """The layer whose weights come last before ``tensor``: the first matrix met on the way back."""
    waiting, visited = deque([tensor.grad_fn]), set()
    while waiting:
        step = waiting.popleft()
        if step is None or step in visited:
            continue
        visited.add(step)
        parameter = getattr(step, "variable", None)
        if parameter is not None and parameter.ndim == 2:
            return names.get(id(parameter))
        waiting.extend(following for following, _ in step.next_functions)
    return None


def recount(module: Any, before: Heads, count: int) -> None:
    """Tell the modules around an attention that it has ``count`` heads now, where attributes of theirs say so.

    Such are whole numbers with ``head`` in their name that are the number of heads, or that times their width.
    """
    new = {before.count: count, before.count * before.width: count * before.width}
    owner = before.query
    for _ in range(2):
        owner = owner.rpartition(".")[0]
        around = module.get_submodule(owner)
        for name, value in list(vars(around).items()):
            if "head" in name.lower() and type(value) is int and value in new and before.count != before.width:
                setattr(around, name, new[value])
