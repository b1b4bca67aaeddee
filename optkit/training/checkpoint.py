"""Checkpoint of a training under way: written in one step, read back only whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optkit.system import atomic, native
from optkit.training.schedule import Epoch, History

_FILE = "checkpoint.pt"


@dataclass
class Best:
    """Weights with the lowest held-out loss so far, and their epoch; 0 is the start."""

    loss: float = math.inf
    epoch: int = 0
    weights: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """State of a training after ``step`` steps; ``sum`` is the epoch's training loss so far, summed over its steps.

    ``student``, ``optimizer`` and ``scaler`` are torch's state dicts, ``random`` the states of its generators.
    """

    step: int
    sum: float
    student: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    random: list[Any]
    best: Best
    history: History

    def save(self, folder: Path) -> None:
        """Write the checkpoint to ``folder``, in place of an earlier one. Raises OutputError."""
        import torch

        folder.mkdir(parents=True, exist_ok=True)
        content = vars(self) | {"best": vars(self.best), "history": self.history.to_facts()}
        with atomic.aside(folder / _FILE) as aside:
            torch.save(content, aside / _FILE)

    @classmethod
    def load(cls, folder: Path, device: str) -> Checkpoint | None:
        """Read the checkpoint in ``folder``, ``None`` where there is none. Raises StageError for a damaged one."""
        import torch

        path = folder / _FILE
        if not path.is_file():
            return None
        with native.foreign("it cannot be read"):
            content = torch.load(path, map_location=device, weights_only=True)
            history = content["history"]
            epochs = [Epoch(**each) for each in history["epochs"]]
            content |= {"best": Best(**content["best"]), "history": History(**history | {"epochs": epochs})}
            return cls(**content)
