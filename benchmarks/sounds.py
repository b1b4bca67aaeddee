"""A classifier of sounds whose graph begins with an STFT, trained here in a minute; nothing is fetched.

Its eight kinds of sound come at any loudness within 50 dB, as recordings do: the logarithm of a mel spectrum makes them
alike, and power, before it, spans five decades. The transform is a convolution with waves, or ONNX's STFT.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

RATE = 8000
LENGTH = 4096
WINDOW, HOP, BANDS = 256, 128, 40
TRAINED, CALIBRATION, EVALUATION = 2400, 200, 800
LOUDNESS = (-50.0, 0.0)
"""Decibels below full scale."""
NOISE = -20.0
"""Decibels of the noise below the sound."""
FLOOR = 1e-6
"""What is added to power before its logarithm is taken."""
EPOCHS = 8


def _tone(random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * random.uniform(200, 3000) * time)


def _chirp(random: np.random.Generator, time: np.ndarray, sign: int) -> np.ndarray:
    low = random.uniform(300, 1200)
    rate = random.uniform(1000, 4000)
    moved = time if sign > 0 else time[::-1]
    return np.sin(2 * np.pi * (low * moved + rate * moved**2 / 2))


def _hiss(random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    return random.normal(0, 0.5, len(time))


def _clicks(random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    wave = np.zeros(len(time))
    wave[random.integers(0, 200) :: random.integers(300, 900)] = 8.0
    return wave


def _vowel(random: np.random.Generator, time: np.ndarray, formants: tuple[float, ...]) -> np.ndarray:
    """Harmonics of a voice, louder near the formants."""
    pitch = random.uniform(90, 250)
    wave = np.zeros(len(time))
    for number in range(1, int(RATE / 2 / pitch)):
        frequency = number * pitch
        weight = sum(1 / (1 + ((frequency - each) / 120) ** 2) for each in formants)
        wave += weight * np.sin(2 * np.pi * frequency * time + random.uniform(0, 2 * np.pi))
    return wave


def _trembling(random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    return _tone(random, time) * (1 + np.sin(2 * np.pi * random.uniform(8, 20) * time))


KINDS: tuple[Callable[[np.random.Generator, np.ndarray], np.ndarray], ...] = (
    _tone,
    lambda random, time: _chirp(random, time, 1),
    lambda random, time: _chirp(random, time, -1),
    _hiss,
    _clicks,
    lambda random, time: _vowel(random, time, (730.0, 1090.0, 2440.0)),
    lambda random, time: _vowel(random, time, (270.0, 2290.0, 3010.0)),
    _trembling,
)


def sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many sounds and their kinds, every kind as often as the others."""
    random = np.random.default_rng(seed)
    time = np.arange(LENGTH) / RATE
    waves, labels = np.empty((count, LENGTH), np.float32), np.arange(count) % len(KINDS)
    for number, label in enumerate(labels):
        wave = KINDS[label](random, time)
        wave = wave / np.sqrt(np.mean(wave**2)) + 10 ** (NOISE / 20) * random.normal(0, 1, LENGTH)
        waves[number] = 0.2 * 10 ** (random.uniform(*LOUDNESS) / 20) * wave
    return waves, labels.astype(np.int64)


def mel_bands() -> torch.Tensor:
    """Triangles on the mel scale: ``[frequency, band]``."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    at = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bands = np.minimum((at - low) / (middle - low), (high - at) / (high - middle))
    return torch.from_numpy(np.clip(bands, 0, None).astype(np.float32))


class Convolved(nn.Module):
    """Power of every frequency in every window, by a convolution with windowed waves."""

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(WINDOW) * torch.arange(WINDOW // 2 + 1)[:, None] * (2 * math.pi / WINDOW)
        waves = torch.cat([torch.cos(at), -torch.sin(at)]) * torch.hann_window(WINDOW)
        self.register_buffer("waves", waves[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = nn.functional.conv1d(x[:, None], self.waves, stride=HOP)
        real, imaginary = both.chunk(2, dim=1)
        return (real**2 + imaginary**2).transpose(1, 2)


class Transformed(nn.Module):
    """The same by torch's STFT."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.stft(x, WINDOW, HOP, window=self.window, center=False, return_complex=True)
        parts = torch.view_as_real(found)
        return (parts**2).sum(-1).transpose(1, 2)


class Classifier(nn.Module):
    """Power to a mel spectrum's logarithm, and three convolutions over that."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bands", mel_bands())
        layers, channels = [], 1
        for wider in (16, 32, 32):
            layers += [nn.Conv2d(channels, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels = wider
        self.net = nn.Sequential(nn.BatchNorm2d(1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 8))

    def forward(self, power: torch.Tensor) -> torch.Tensor:
        return self.net(torch.log(power @ self.bands + FLOOR)[:, None])


class Whole(nn.Module):
    """Sound to logits."""

    def __init__(self, front: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.front, self.net = front, net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.front(x))


def trained() -> Classifier:
    """The classifier, trained."""
    torch.manual_seed(0)
    x, labels = map(torch.from_numpy, sounds(TRAINED, seed=1))
    net, front = Classifier(), Convolved()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    with torch.no_grad():
        power = torch.cat([front(part) for part in x.split(100)])
    for _ in range(EPOCHS):
        for chosen in torch.randperm(TRAINED).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(power[chosen]), labels[chosen]).backward()
            optimizer.step()
    return net.eval()


def make(folder: Path) -> None:
    """Write ``convolved.pt2`` and ``stft.pt2``, ``calibration.npz`` and ``evaluation.npz``."""
    net = trained()
    for name, front in (("convolved", Convolved()), ("stft", Transformed())):
        whole, example = Whole(front, net).eval(), torch.zeros(2, LENGTH)
        program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, folder / f"{name}.pt2")
    for part, count, seed in (("calibration", CALIBRATION, 2), ("evaluation", EVALUATION, 3)):
        x, labels = sounds(count, seed)
        np.savez(folder / f"{part}.npz", x=x, labels=labels)
