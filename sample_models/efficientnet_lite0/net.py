"""EfficientNet-Lite0; its keys are those of the package's weights, its paddings those of TensorFlow's "SAME"."""

import torch
from torch import nn

IMAGE = 224
STEM, HEAD, CLASSES = 32, 1280, 1000
BLOCKS = (  # repeats, kernel, stride, expansion, outputs
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: the odd pixel goes to the right and to the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, size: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        self.same = nn.ZeroPad2d((total // 2, total - total // 2) * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.same(x))


class Block(nn.Module):
    """Expand, convolve each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, size: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, size, groups=inner)
        self._bn1 = norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = norm(outputs)
        self.expands, self.shortcut = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = nn.functional.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return inner + x if self.shortcut else inner


class EfficientNetLite0(nn.Module):
    """``x: float32[batch, 3, 224, 224]`` of (rgb - 127) / 128, to the logits of ImageNet's 1,000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, STEM, 3, 2, IMAGE)
        self._bn0 = norm(STEM)
        self._blocks = nn.ModuleList(blocks(STEM, IMAGE // 2))
        self._conv_head = nn.Conv2d(BLOCKS[-1][-1], HEAD, 1, bias=False)
        self._bn1 = norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return {"logits": self._fc(x.mean((2, 3)))}


def blocks(inputs: int, size: int) -> list[Block]:
    built = []
    for repeats, kernel, stride, expansion, outputs in BLOCKS:
        for index in range(repeats):
            step = stride if index == 0 else 1
            built.append(Block(inputs, outputs, kernel, step, expansion, size))
            inputs, size = outputs, -(-size // step)
    return built


def build() -> nn.Module:
    """What ``--code net.py:build`` calls."""
    return EfficientNetLite0()
