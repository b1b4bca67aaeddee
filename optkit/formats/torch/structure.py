"""Changes of a module since its code built it: layers left out, narrower weights, fewer heads.

A pruned state dict no longer fits its code. So the changes are kept in the metadata of the ``.safetensors``, and
applied to the module that the code builds, before the weights are loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from optkit.errors import ModelError
from optkit.formats.torch.archive import read_notes

_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Structure:
    """Changes of a module."""

    layers: dict[str, list[int]] = field(default_factory=dict)
    """Children that are kept, by the name of their container."""
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changed attributes by the name of their module."""
    ranges: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Lowest and highest value of the ``input`` or ``output`` of a module, by its name; values beyond are clipped."""

    def keeping(self, layers: Mapping[str, Sequence[int]]) -> Structure:
        """Return the structure with only these children of its containers kept, numbered as they are now."""
        kept = {name: list(indices) for name, indices in layers.items()}
        for name, before in self.layers.items():
            kept[name] = [before[index] for index in kept[name]] if name in kept else before
        return Structure(kept, self.attributes, self.ranges)


def read(path: Path) -> Structure | None:
    """Read the structure in a file's metadata; ``None`` where it is that of its code. Raises ModelError."""
    found = read_notes(path).get("structure")
    if found is None:
        return None
    try:
        return Structure(**found)
    except TypeError:
        raise ModelError(f"{path}: the structure that it notes cannot be read", hint="prune or distill again") from None


def differing(changed: Any, built: Any, layers: Structure) -> Structure:
    """Find the structure of ``changed``; ``built`` is fresh from the code, ``layers`` are its layers that are left."""
    _leave_out(built, layers.layers)
    before = dict(built.named_modules())
    attributes = {
        name: found
        for name, module in changed.named_modules()
        if name in before and (found := _changed(before[name], module))
    }
    return Structure(layers.layers, attributes, layers.ranges)


def rebuild(module: Any, structure: Structure, tensors: Mapping[str, Any]) -> None:
    """Change ``module``, fresh from the code, into the structure of the weights ``tensors``.

    Raises ModelError if the code builds another module.
    """
    try:
        _leave_out(module, structure.layers)
        for name, values in structure.attributes.items():
            for key, value in values.items():
                setattr(module.get_submodule(name), key, tuple(value) if isinstance(value, list) else value)
        clip(module, structure.ranges)
    except (AttributeError, IndexError) as error:
        raise ModelError(
            f"the code builds another module than was pruned: {error}", hint="is it the same code?"
        ) from None
    _reshape(module, tensors)


def clip(module: Any, ranges: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Clip layers' inputs and outputs to these ranges whenever the module runs."""
    for name, sides in ranges.items():
        layer = module.get_submodule(name)
        if "input" in sides:
            layer.register_forward_pre_hook(partial(_clip_input, sides["input"]))
        if "output" in sides:
            layer.register_forward_hook(partial(_clip_output, sides["output"]))


def _clip_input(bounds: Sequence[float], _: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].clamp(*bounds), *inputs[1:])


def _clip_output(bounds: Sequence[float], _: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    return output.clamp(*bounds)


def keep(container: Any, indices: Sequence[int]) -> None:
    """Keep only these children of a ModuleList or Sequential, renumbered."""
    children = list(container)
    container._modules = OrderedDict((str(number), children[index]) for number, index in enumerate(indices))


def _leave_out(module: Any, layers: Mapping[str, Sequence[int]]) -> None:
    for name, indices in layers.items():
        keep(module.get_submodule(name), indices)


def _changed(before: Any, after: Any) -> dict[str, Any]:
    old, new = _attributes(before), _attributes(after)
    return {key: value for key, value in new.items() if key in old and old[key] != value}


def _attributes(module: Any) -> dict[str, Any]:
    """Return a module's own plain values: ``out_channels``, ``num_heads``, ``normalized_shape``."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in vars(module).items()
        if not key.startswith("_")
        and key != "training"
        and (
            isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(isinstance(item, _PLAIN) for item in value))
        )
    }


def _reshape(module: Any, tensors: Mapping[str, Any]) -> None:
    """Resize parameters and buffers to ``tensors``; shared ones stay shared."""
    import torch

    renewed: dict[int, Any] = {}
    for name, tensor in tensors.items():
        owner_name, _, leaf = name.rpartition(".")
        try:
            owner = module.get_submodule(owner_name)
        except AttributeError:
            continue  # filling the module tells of all that does not fit
        old = owner._parameters.get(leaf, owner._buffers.get(leaf))
        if old is None or old.shape == tensor.shape:
            continue
        if leaf in owner._buffers:
            owner._buffers[leaf] = torch.empty_like(tensor)
        else:
            new = renewed.setdefault(id(old), torch.nn.Parameter(torch.empty_like(tensor, dtype=old.dtype)))
            owner._parameters[leaf] = new.requires_grad_(old.requires_grad)
