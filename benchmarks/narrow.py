"""A network that is sensitive to quantization: a small MobileNetV1 (Howard et al., 2017), deep and narrow, with SiLU.

It has no shortcuts: the rounding error of each layer passes through all later ones.
"""

from torch import nn

WIDTH, DEPTH = 8, 18


def _normed(*convolution: nn.Module) -> list[nn.Module]:
    return [*convolution, nn.BatchNorm2d(WIDTH), nn.SiLU()]


def build() -> nn.Module:
    """Make the network: from pixels in 0..1, ``x: float32[batch, 1, 28, 28]``, to ten logits."""
    layers = _normed(nn.Conv2d(1, WIDTH, 3, 2, 1, bias=False))
    for _ in range(DEPTH):
        layers += _normed(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH, bias=False))
        layers += _normed(nn.Conv2d(WIDTH, WIDTH, 1, bias=False))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))
