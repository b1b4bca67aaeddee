"""How a module differs from the one that its code builds: layers left out, narrower weights, fewer heads.

A pruned state dict no longer fits its code. So what has changed is kept beside the weights, in the metadata of the
``.safetensors``, and done again to a module fresh from the code before it takes the weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from optkit.errors import ModelError
from optkit.formats.torch import archive as torch_archive

_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Structure:
    """``layers``: of a container, by name, which children are kept; ``attributes``: of a module, what changed;
    ``ranges``: the lowest and the highest value of a module's ``input`` or ``output``, what is beyond is cut off.
    """

    layers: dict[str, list[int]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    ranges: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def keeping(self, layers: Mapping[str, Sequence[int]]) -> Structure:
        """The same where of its containers only these children, as counted now, are kept as well."""
        kept = {name: list(indices) for name, indices in layers.items()}
        for name, before in self.layers.items():
            kept[name] = [before[index] for index in kept[name]] if name in kept else before
        return Structure(kept, self.attributes, self.ranges)


def read(path: Path) -> Structure | None:
    """The structure noted beside the weights in a file; ``None`` where it is that of its code. Raises ModelError."""
    found = torch_archive.noted(path).get("structure")
    if found is None:
        return None
    try:
        return Structure(**found)
    except TypeError:
        raise ModelError(f"{path}: the structure that it notes cannot be read", hint="prune or distill again") from None


def differing(changed: Any, built: Any, layers: Structure) -> Structure:
    """The structure of ``changed``; ``built`` is fresh from the code, and ``layers`` says which of its are left."""
    _leave_out(built, layers.layers)
    before = dict(built.named_modules())
    attributes = {
        name: found
        for name, module in changed.named_modules()
        if name in before and (found := _changed(before[name], module))
    }
    return Structure(layers.layers, attributes, layers.ranges)


def rebuild(module: Any, structure: Structure, tensors: Mapping[str, Any]) -> None:
    """Change ``module``, fresh from the code, into the structure that ``tensors`` are the weights of.

    Raises ModelError where the code builds something else.
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
    """Cut off what is beyond these ranges of layers' inputs and outputs, whenever the module runs."""
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
    """Leave only these children in a ModuleList or Sequential, numbered anew."""
    children = list(container)
    container._modules = OrderedDict((str(number), children[index]) for number, index in enumerate(indices))


def _leave_out(module: Any, layers: Mapping[str, Sequence[int]]) -> None:
    for name, indices in layers.items():
        keep(module.get_submodule(name), indices)


def _changed(before: Any, after: Any) -> dict[str, Any]:
    old, new = _attributes(before), _attributes(after)
    return {key: value for key, value in new.items() if key in old and old[key] != value}


def _attributes(module: Any) -> dict[str, Any]:
    """A module's own plain values: ``out_channels``, ``num_heads``, ``normalized_shape``."""
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
    """Give parameters and buffers the sizes of ``tensors``; what was shared stays shared."""
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
