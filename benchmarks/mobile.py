"""A net of depthwise convolutions, trained on Fashion-MNIST; what INT8 with one scale for each tensor does to it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

EPOCHS = 2
BATCH = 128


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise convolution, then one across channels: MobileNet's (Howard et al., 2017)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def build() -> nn.Module:
    """What ``--code mobile.py:build`` calls: pixels in 0..1 to ten logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        _block(16, 32, 2), _block(32, 48, 1), _block(48, 64, 2), _block(64, 64, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def train(path: Path, data: Path, seed: int) -> None:
    """Train it on an ``.npz`` of images and labels, and write its state dict."""
    torch.manual_seed(seed)
    with np.load(data) as arrays:
        images, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["labels"])
    module = build().train()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.2)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
            loss = nn.functional.cross_entropy(module(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    torch.save(module.state_dict(), path)
