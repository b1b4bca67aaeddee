"""Attention heads of a module: the layers that project queries and keys, and the attributes that hold their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optkit.training import features


@dataclass(frozen=True)
class Heads:
    """The heads of one attention."""

    query: str
    """Name of the layer that projects the query."""
    key: str
    """Name of the layer that projects the key."""
    count: int
    """Number of heads."""
    width: int
    """Width of each head."""


def found(module: Any, inputs: tuple[Any, ...]) -> list[Heads]:
    """Find the attentions of a module by running it once, in order of execution.

    Only calls of torch's scaled dot-product attention are seen, not attention written as matrix products. Attentions
    whose query or key no single layer projects are left out.
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
    """Return the name of the layer whose weight matrix is nearest before ``tensor`` in the autograd graph."""
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
    """Set the attributes of the modules around an attention that hold its number of heads to ``count``.

    These are integers with ``head`` in their name that equal the number of heads, or that number times their width.
    """
    new = {before.count: count, before.count * before.width: count * before.width}
    owner = before.query
    for _ in range(2):
        owner = owner.rpartition(".")[0]
        around = module.get_submodule(owner)
        for name, value in list(vars(around).items()):
            if "head" in name.lower() and type(value) is int and value in new and before.count != before.width:
                setattr(around, name, new[value])
