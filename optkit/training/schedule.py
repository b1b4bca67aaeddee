"""The learning rate over a training, and the training's history."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from optkit import units
from optkit.notes import Note

_WARM_UP = 0.1
"""The share of all steps in which the learning rate rises."""


@dataclass
class Epoch:
    """One pass: losses of training and held-out data, the metric on held-out data, the learning rate at its end."""

    epoch: int
    loss: float
    held_out: float
    metric: float | None
    learning_rate: float
    seconds: float


@dataclass
class History:
    """Course of a training. ``resumed`` is the step that it went on from, ``discarded`` the reason why a checkpoint was
    not used; ``best`` is the epoch whose weights were kept, 0 where none was better than the start.
    """

    metric: str = ""
    learning_rate: float = 0.0
    device: str = "cpu"
    precision: str = "float32"
    steps: int = 0
    resumed: int | None = None
    discarded: str | None = None
    best: int = 0
    stopped_early: bool = False
    epochs: list[Epoch] = field(default_factory=list)

    def to_facts(self) -> dict[str, Any]:
        """Convert to plain values, for the record of a stage."""
        return asdict(self)


def share(step: int, total: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay."""
    rise = max(1.0, _WARM_UP * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, total - rise))))


def notes(history: History) -> tuple[Note, ...]:
    """Return notes on a training: length, learning rate, the best epoch, and warnings."""
    best = history.epochs[history.best - 1] if history.best else None
    parts = [f"trained {len(history.epochs)} epochs on {history.device} in {history.precision}"]
    parts.append(f"learning rate {history.learning_rate:g}")
    if best is not None:
        metric = f", {history.metric} {units.quality(best.metric)}" if best.metric is not None else ""
        parts.append(f"the best was epoch {best.epoch}: held-out loss {best.held_out:.4g}{metric}")
    found = [Note("; ".join(parts))]
    if history.epochs and not history.best:
        text = "no epoch was better on held-out data than the start, which is kept"
        found.append(Note(f"{text}: a lower --learning-rate, or more --epochs", level="warning"))
    if history.resumed is not None:
        found.append(Note(f"went on from the checkpoint of step {history.resumed:,} of a run that was ended"))
    if history.discarded is not None:
        text = f"the checkpoint of a run that was ended is thrown away, and training began anew: {history.discarded}"
        found.append(Note(text, level="warning"))
    if history.stopped_early:
        found.append(Note("stopped early: the held-out loss no longer fell"))
    return tuple(found)
