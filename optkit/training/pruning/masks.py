"""Sparsity masks that set small weights to zero, unstructured or 2:4, and keep them zero while the rest is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optkit.errors import StageError
from optkit.options.verbs.prune import Pattern


@dataclass
class Masks:
    """The masks of a module's weights."""

    kept: dict[str, Any]
    """For each layer by name, a tensor of its weight's shape: 1 for weights that stay, 0 for the others."""
    share: float
    """Share of all weights of the module that is zero."""

    def put_on(self, module: Any) -> None:
        """Set the masked weights to zero, in place."""
        import torch

        with torch.no_grad():
            for name, mask in self.kept.items():
                module.get_submodule(name).weight.mul_(mask)


def smallest(module: Any, pattern: Pattern, sparsity: float, exclude: tuple[str, ...] = ()) -> Masks:
    """Mask the smallest weights of convolutions and linear layers: ``sparsity`` of all of them together, or for 2:4 the
    two smallest of each four input channels ("Accelerating Sparse Deep Neural Networks", Mishra et al., 2021).

    2:4 leaves out layers whose input channels are no multiple of four. ``exclude`` holds names of layers or of modules
    around them. Raises StageError if no layer is left to mask.
    """
    import torch

    layers = {
        name: layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.modules.conv._ConvNd | torch.nn.Linear)
        and not any(name == given or name.startswith(f"{given}.") for given in exclude)
        and not (pattern == "2:4" and (getattr(layer, "transposed", False) or layer.weight.shape[1] % 4))
    }
    if not layers:
        raise StageError(f"no weights could be set to zero ({pattern})", hint="exclude fewer layers, or cut units")
    if pattern == "2:4":
        kept = {name: _two_of_four(weight) for name, weight in layers.items()}
    else:
        sizes = torch.cat([weight.abs().flatten() for weight in layers.values()])
        limit = sizes.kthvalue(max(1, int(sparsity * len(sizes)))).values
        kept = {name: (weight.abs() > limit).to(weight.dtype) for name, weight in layers.items()}
    total = sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
    zeros = sum(float((mask == 0).sum()) for mask in kept.values())
    return Masks(kept, zeros / max(total, 1))


def _two_of_four(weight: Any) -> Any:
    import torch

    fours = weight.abs().movedim(1, -1).unflatten(-1, (-1, 4))
    mask = torch.zeros_like(fours).scatter_(-1, fours.topk(2, dim=-1).indices, 1.0)
    return mask.flatten(-2).movedim(-1, 1)
