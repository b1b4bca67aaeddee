"""Stacks of repeated layers in a module, which may be left out because their output has the shape of their input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optkit.formats.torch import structure


def stacks(module: Any, run: Callable[[Any], object]) -> dict[str, list[int]]:
    """Find the containers (ModuleList, Sequential) of repeated layers, and the indices of the children that may go.

    ``run`` runs a module once. Leaves are no layers: without one Linear of two, the input of the other changes meaning.
    """
    import torch

    kept_shape: set[int] = set()
    hooks = [each.register_forward_hook(_noting(kept_shape)) for each in module.modules()]
    try:
        run(module)
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[str, list[int]] = {}
    for name, container in module.named_modules():
        if not isinstance(container, torch.nn.ModuleList | torch.nn.Sequential):
            continue
        if any(not outer or name.startswith(f"{outer}.") for outer in found):
            continue  # inside layers that may go as a whole
        layers = list(container)
        alike = {type(each) for each in layers if id(each) in kept_shape and list(each.children())}
        droppable = [number for number, each in enumerate(layers) if type(each) in alike and id(each) in kept_shape]
        if len(droppable) > 1 and len(alike) == 1:
            found[name] = droppable
    return found


def named(module: Any, run: Callable[[Any], object]) -> dict[str, list[str]]:
    """List the names of the layers of each stack, in order."""
    return {name: [child(name, index) for index in indices] for name, indices in stacks(module, run).items()}


def child(container: str, index: int) -> str:
    """Return the name of a container's child; the outermost module has the name ``""``."""
    return f"{container}.{index}".removeprefix(".")


def spread(count: int, kept: int) -> list[int]:
    """Choose ``kept`` of ``count`` layers, evenly spaced from first to last, as DistilBERT does (Sanh et al., 2019)."""
    if kept == 1:
        return [count - 1]
    return [round(number * (count - 1) / (kept - 1)) for number in range(kept)]


def leave_out(module: Any, dropped: dict[str, list[int]]) -> structure.Structure:
    """Remove these children from their containers, in place, and return the module's new structure."""
    layers: dict[str, list[int]] = {}
    for name, indices in dropped.items():
        container = module.get_submodule(name)
        layers[name] = [number for number in range(len(container)) if number not in indices]
        structure.keep(container, layers[name])
    return structure.Structure(layers)


def _noting(found: set[int]) -> Callable[[Any, Any, Any], None]:
    def note(module: Any, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        given = inputs[0] if inputs else None
        if given is not None and getattr(first, "shape", None) == getattr(given, "shape", ()):
            found.add(id(module))

    return note
