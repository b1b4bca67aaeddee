"""The sample network: a residual CNN for 28 x 28 grey images in ten classes."""

import torch
from torch import nn


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; halves the image where ``stride`` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class FashionCNN(nn.Module):
    """Pixels in 0..1, ``x: float32[batch, 1, 28, 28]``, to ten logits."""

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 72)) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.stages = nn.Sequential(Residual(first, first, 1), Residual(first, second, 2), Residual(second, third, 2))
        self.head = nn.Linear(third, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.stages(self.stem((x - 0.286) / 0.353))
        return self.head(features.mean((2, 3)))


def build() -> nn.Module:
    """What ``--code net.py:build`` calls."""
    return FashionCNN()


def small() -> nn.Module:
    """A student with less than a quarter of the parameters."""
    return FashionCNN((12, 23, 34))
