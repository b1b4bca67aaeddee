"""A net that rounding hurts: MobileNetV1 (Howard et al., 2017) in small, deep and narrow, with SiLU for ReLU.

Nothing goes past its layers, so that each one's error goes through all that follow.
"""

from torch import nn

WIDTH, DEPTH = 8, 18


def _normed(*convolution: nn.Module) -> list[nn.Module]:
    return [*convolution, nn.BatchNorm2d(WIDTH), nn.SiLU()]


def build() -> nn.Module:
    """Pixels in 0..1, ``x: float32[batch, 1, 28, 28]``, to ten logits."""
    layers = _normed(nn.Conv2d(1, WIDTH, 3, 2, 1, bias=False))
    for _ in range(DEPTH):
        layers += _normed(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH, bias=False))
        layers += _normed(nn.Conv2d(WIDTH, WIDTH, 1, bias=False))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))
