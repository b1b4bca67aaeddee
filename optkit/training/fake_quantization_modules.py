"""Modules of PyTorch that round as integer kernels do, with gradients as if they did not.

It imports torch: import it inside functions.
"""

from __future__ import annotations

from typing import Any

import torch

_KEPT = 4_000
"""Values of each batch that are kept while ranges are observed."""
_SHARES = tuple(number / 50 for number in range(5, 51))
"""Shares of the observed range that are tried: the one with the least rounding error is the first range."""
_SPEED = 10.0
"""Factor of the learning rate for ranges: they change relative to their size, which the learning rate ignores."""
_LEVELS = 255
"""Steps between the ends of an unsigned range of 8 bits."""
_SMALLEST = 1e-12
"""Of a scale: zero would divide by zero."""


class RoundedWeights(torch.nn.Module):  # type: ignore[misc]
    """A parametrization: symmetric rounding of a weight to ``bits``.

    With ``axis``, the axis of the output channels, there is a scale for each channel.
    """

    def __init__(self, bits: int, axis: int | None) -> None:
        super().__init__()
        self._limit, self._axis = 2 ** (bits - 1) - 1, axis

    def forward(self, weight: Any) -> Any:
        """Return the weight, float32, with at most ``2 ** bits - 1`` values for each scale."""
        magnitudes, limit = weight.detach().abs(), self._limit
        if self._axis is None:
            scale = (magnitudes.amax() / limit).clamp(min=_SMALLEST)
            return torch.fake_quantize_per_tensor_affine(weight, scale, _zero(scale), -limit, limit)
        scale = (magnitudes.movedim(self._axis, 0).flatten(1).amax(1) / limit).clamp(min=_SMALLEST)
        return torch.fake_quantize_per_channel_affine(weight, scale, _zero(scale), self._axis, -limit, limit)


def _zero(scale: Any) -> Any:
    return torch.zeros_like(scale, dtype=torch.int32)


class RoundedValues(torch.nn.Module):  # type: ignore[misc]
    """Rounding of activations to 256 steps of a learnt range, which holds zero; floats pass until it is observed."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("extremes", torch.zeros(2))
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("seen", torch.tensor(False))
        self.stretch = torch.nn.Parameter(torch.zeros(2))
        self.watching = False
        """True while ranges are observed: values are noted and not rounded."""
        self._kept: list[Any] = []

    def forward(self, value: Any) -> Any:
        """Return the value in float32, rounded; tensors of integers as they are."""
        if not value.is_floating_point():
            return value
        if self.watching:
            self._watch(value.detach().float())
        if self.watching or not self.seen:
            return value
        low, high = self.learnt()
        scale = ((high - low) / _LEVELS).clamp(min=_SMALLEST)
        # Keeps the gradients of ranges as large as those of weights (Esser et al., 2020).
        factor = (value.numel() * _LEVELS) ** -0.5
        return torch._fake_quantize_learnable_per_tensor_affine(
            value.float(), scale.reshape(1), (-low / scale).reshape(1), 0, _LEVELS, factor
        )

    def learnt(self) -> Any:
        """Return the lowest and the highest value of the range, outside of which values saturate."""
        low, high = self.range * torch.exp(_SPEED * self.stretch)
        return low, high

    def settle(self) -> None:
        """End the observation: take the range with the least rounding error of the values kept."""
        self.watching = False
        if self.seen:
            values = torch.cat([*self._kept, self.extremes])
            candidates = (share * self.extremes for share in _SHARES)
            self.range.copy_(min(candidates, key=lambda each: _squared_error(values, each)))
        self._kept = []

    def _watch(self, value: Any) -> None:
        now = torch.stack([value.min().clamp(max=0.0), value.max().clamp(min=0.0)])
        self.extremes.copy_(
            torch.stack([torch.minimum(self.extremes[0], now[0]), torch.maximum(self.extremes[1], now[1])])
        )
        self.seen.fill_(True)
        flat = value.flatten()
        count = min(_KEPT, len(flat))
        self._kept.append(flat[torch.arange(count) * len(flat) // max(1, count)])


def _squared_error(values: Any, bounds: Any) -> float:
    """Return the mean squared error of values rounded to 256 steps between two bounds."""
    low, high = bounds
    scale = ((high - low) / _LEVELS).clamp(min=_SMALLEST)
    steps = (values.clamp(low, high) - low) / scale
    return float(((steps.round() * scale + low - values) ** 2).mean())
