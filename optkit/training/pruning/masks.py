"""Zeros in place of small weights: any of them, or two of each four in a row; kept zero while the rest learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from optkit.errors import StageError

Pattern = Literal["unstructured", "2:4"]


@dataclass
class Masks:
    """Which weights stay, by the name of their layer; ``share`` is the share of all weights that is zero."""

    kept: dict[str, Any]
    share: float

    def put_on(self, module: Any) -> None:
        """Set to zero what is masked."""
        import torch

        with torch.no_grad():
            for name, mask in self.kept.items():
                module.get_submodule(name).weight.mul_(mask)


def smallest(module: Any, pattern: Pattern, sparsity: float, exclude: tuple[str, ...] = ()) -> Masks:
    """Mask the smallest weights of convolutions and linear layers: ``sparsity`` of all of them together, or for 2:4 the
    two smallest of each four input channels ("Accelerating Sparse Deep Neural Networks", Mishra et al., 2021).

    Layers whose input channels are no multiple of four have no 2:4. ``exclude`` holds names of layers, or of what they
    are in. Raises StageError where nothing is left to mask.
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
