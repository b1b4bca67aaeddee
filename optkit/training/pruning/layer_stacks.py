"""A module's repeated layers: those that may be left out, as their output has the shape of their input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optkit.formats.torch import structure


def stacks(module: Any, run: Callable[[Any], object]) -> dict[str, list[int]]:
    """The containers (ModuleList, Sequential) of repeated layers, by name, and which of their children may be left out.

    ``run`` runs a module once. A layer is no leaf: leaving out one Linear of two changes what the others mean.
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
            continue  # inside of layers that may go as a whole
        layers = list(container)
        alike = {type(each) for each in layers if id(each) in kept_shape and list(each.children())}
        droppable = [number for number, each in enumerate(layers) if type(each) in alike and id(each) in kept_shape]
        if len(droppable) > 1 and len(alike) == 1:
            found[name] = droppable
    return found


def named(module: Any, run: Callable[[Any], object]) -> dict[str, list[str]]:
    """The layers of each stack by name, in order."""
    return {name: [child(name, index) for index in indices] for name, indices in stacks(module, run).items()}


def child(container: str, index: int) -> str:
    """The name of a container's child; the outermost module has none."""
    return f"{container}.{index}".removeprefix(".")


def spread(count: int, kept: int) -> list[int]:
    """``kept`` of ``count`` layers, the first and the last among them: DistilBERT's choice (Sanh et al., 2019)."""
    if kept == 1:
        return [count - 1]
    return [round(number * (count - 1) / (kept - 1)) for number in range(kept)]


def leave_out(module: Any, dropped: dict[str, list[int]]) -> structure.Structure:
    """Leave these children out of their containers. The structure that the module then has."""
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
