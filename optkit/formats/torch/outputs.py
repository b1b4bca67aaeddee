"""Outputs of a torch model, flat and named: the same names for its own session and for its export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optkit.formats.tensors import Arrays, TensorSpec

if TYPE_CHECKING:
    pass


def named_outputs(outputs: Any) -> dict[str, Any]:
    """Name the tensors in ``outputs``, in the order in which torch flattens them.

    A tensor without a key is called ``output``; tensors of one name are numbered: ``output_0``. ``None`` counts as
    absent.
    """
    leaves = list(_leaves(outputs, "output"))
    counts = Counter(name for name, _ in leaves)
    seen: Counter[str] = Counter()
    found: dict[str, Any] = {}
    for name, value in leaves:
        found[name if counts[name] == 1 else f"{name}_{seen[name]}"] = value
        seen[name] += 1
    return found


def on_host(outputs: Any) -> Any:
    """Copy each tensor to the host's memory; mappings become dicts, and sequences lists."""
    if isinstance(outputs, Mapping):
        return {key: on_host(item) for key, item in outputs.items()}
    if isinstance(outputs, list | tuple):
        return [on_host(item) for item in outputs]
    return outputs if outputs is None else outputs.cpu()


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors in ``value`` with their innermost keys, or ``name`` where there is none."""
    if value is None:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, name)
    else:
        yield name, value


def input_tensors(feed: Arrays, inputs: Sequence[TensorSpec]) -> tuple[Any, ...]:
    """Convert the feed to tensors, in the order of the inputs and in their dtypes."""
    import torch

    return tuple(torch.from_numpy(feed[spec.name].copy()).to(getattr(torch, spec.dtype)) for spec in inputs)
