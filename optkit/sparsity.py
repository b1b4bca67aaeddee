"""Zeros in place of small weights: any of them, or two of each four in a row; kept zero while the rest learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
    two smallest of each four inputs ("Accelerating Sparse Deep Neural Networks", Mishra et al., 2021).

    Layers whose inputs are no multiple of four have no 2:4.
    """
    import torch

    layers = {
        name: layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.modules.conv._ConvNd | torch.nn.Linear) and name not in exclude
    }
    if pattern == "2:4":
        kept = {name: _two_of_four(weight) for name, weight in layers.items() if weight[0].numel() % 4 == 0}
    else:
        sizes = torch.cat([weight.abs().flatten() for weight in layers.values()])
        limit = sizes.kthvalue(max(1, int(sparsity * len(sizes)))).values
        kept = {name: (weight.abs() > limit).to(weight.dtype) for name, weight in layers.items()}
    total = sum(weight.numel() for weight in layers.values())
    zeros = sum(float((mask == 0).sum()) for mask in kept.values())
    return Masks(kept, zeros / max(total, 1))


def _two_of_four(weight: Any) -> Any:
    import torch

    rows = weight.abs().flatten(1).unflatten(1, (-1, 4))
    mask = torch.zeros_like(rows).scatter_(2, rows.topk(2, dim=2).indices, 1.0)
    return mask.flatten(1).reshape(weight.shape)
