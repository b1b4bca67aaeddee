"""Fake quantization while training: weights and inputs of layers rounded as integer kernels will round them.

"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", Jacob et al., 2018: the
rounding is in the forward pass, and gradients go through as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MEMORY = 0.99
"""How much of a range is kept when another batch is seen that needs less; what needs more gets it at once."""
_INPUT = "optkit_input"


def put_into(module: Any, *, weight_bits: int, per_channel: bool) -> int:
    """Round weights (symmetric) and inputs (8 bits, one scale) of convolutions and linear layers; how many those are.

    Only layers with a weight of their own: one that is tied to an embedding stays in float on runtimes, too.
    """
    from torch.nn.utils import parametrize

    layers = list(_layers(module))
    for layer in layers:
        weights = _rounded_weights(weight_bits, _output_axis(layer) if per_channel else None)
        parametrize.register_parametrization(layer, "weight", weights, unsafe=True)
        layer.add_module(_INPUT, _rounded_values().to(layer.weight.device))
        layer.register_forward_pre_hook(_round_input)
    return len(layers)


def take_out(module: Any) -> None:
    """Leave the weights as they were trained, in float."""
    from torch.nn.utils import parametrize

    for layer in list(_layers(module)):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            delattr(layer, _INPUT)
            for number, hook in list(layer._forward_pre_hooks.items()):
                if hook is _round_input:
                    del layer._forward_pre_hooks[number]


def _layers(module: Any) -> Iterator[Any]:
    import torch

    embedded = {id(each.weight) for each in module.modules() if isinstance(each, torch.nn.Embedding)}
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.conv._ConvNd | torch.nn.Linear) and id(layer.weight) not in embedded:
            yield layer


def _output_axis(layer: Any) -> int:
    """Where a weight's output channels lie; transposed convolutions have them second."""
    return 1 if getattr(layer, "transposed", False) else 0


def _round_input(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(layer, _INPUT)(inputs[0]), *inputs[1:])


def _rounded_weights(bits: int, axis: int | None) -> Any:
    import torch

    limit = 2 ** (bits - 1) - 1

    class Weights(torch.nn.Module):  # type: ignore[misc]
        def forward(self, weight: Any) -> Any:
            if axis is None:
                scale = (weight.detach().abs().amax() / limit).clamp(min=1e-12)
                return torch.fake_quantize_per_tensor_affine(weight, scale, _zero(scale), -limit, limit)
            scale = (weight.detach().abs().movedim(axis, 0).flatten(1).amax(1) / limit).clamp(min=1e-12)
            return torch.fake_quantize_per_channel_affine(weight, scale, _zero(scale), axis, -limit, limit)

    return Weights()


def _rounded_values() -> Any:
    import torch

    class Values(torch.nn.Module):  # type: ignore[misc]
        """Keeps a running range while training, and rounds to its 256 steps."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("range", torch.zeros(2))
            self.register_buffer("seen", torch.tensor(False))

        def forward(self, value: Any) -> Any:
            if not value.is_floating_point():
                return value
            if self.training:
                self._widen(value.detach())
            if not self.seen:
                return value
            low, high = self.range[0].clamp(max=0.0), self.range[1].clamp(min=0.0)
            scale = ((high - low) / 255).clamp(min=1e-12)
            zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
            return torch.fake_quantize_per_tensor_affine(value.float(), scale, zero, 0, 255)

        def _widen(self, value: Any) -> None:
            now = torch.stack([value.min(), value.max()]).float()
            slowly = _MEMORY * self.range + (1 - _MEMORY) * now
            wide = torch.stack([torch.minimum(slowly[0], now[0]), torch.maximum(slowly[1], now[1])])
            self.range.copy_(torch.where(self.seen, wide, now))
            self.seen.fill_(True)

    return Values()


def _zero(scale: Any) -> Any:
    import torch

    return torch.zeros_like(scale, dtype=torch.int32)
