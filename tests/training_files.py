"""What tests of training share: small data, and small nets as a user would write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

TRANSFORMER = '''
import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

WIDTH = 32


class Attention(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.num_heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def heads_of(self, x):
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x):
        parts = (self.heads_of(each(x)) for each in (self.query, self.key, self.value))
        return self.out(scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class FixedAttention(Attention):
    def heads_of(self, x):
        return x.unflatten(2, (4, -1)).transpose(1, 2)


class Layer(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.attention, self.before, self.between = attention, nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)

    def forward(self, x):
        x = x + self.attention(self.before(x))
        return x + self.down(gelu(self.up(self.between(x))))


class Net(nn.Module):
    """Rows of a picture as tokens."""

    def __init__(self, attention, layers):
        super().__init__()
        self.embed = nn.Linear(28, WIDTH)
        self.places = nn.Parameter(torch.zeros(1, 28, WIDTH))
        self.layers = nn.ModuleList(Layer(attention(4)) for _ in range(layers))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = self.embed(x.flatten(1, 2)) + self.places
        for layer in self.layers:
            x = layer(x)
        return {"logits": self.head(x.mean(1))}


def build():
    return Net(Attention, 4)


def fixed():
    return Net(FixedAttention, 4)


def shallow():
    return Net(Attention, 2)
'''

SMALL = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )


def recurrent():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.lstm, self.last = nn.Linear(28, 16), nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 10)

        def forward(self, x):
            return self.last(self.lstm(self.first(x.flatten(1, 2)))[0][:, -1])

    return Net()
"""

INPUT = "x:float32[batch,1,28,28]"


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def weights_of(code: Path, callable_name: str, path: Path) -> Path:
    """The state dict of what the code builds, untrained."""
    namespace: dict[str, object] = {}
    exec(compile(code.read_text(), code, "exec"), namespace)
    torch.manual_seed(0)
    torch.save(namespace[callable_name]().state_dict(), path)
    return path


def share(source: Path, path: Path, count: int) -> Path:
    """The first samples of an ``.npz``."""
    with np.load(source) as data:
        np.savez(path, **{name: data[name][:count] for name in data.files})
    return path
