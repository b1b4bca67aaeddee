"""The setup of a training: data, teacher, metric and seed, as a stage that trains takes them from its context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optkit.data.dataset import Dataset
from optkit.formats.model import Model
from optkit.progress import Progress, no_progress


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that training needs besides the model and the schedule."""

    training: Dataset | None = None
    """The training data; a part of it is held out for validation."""
    original: Model | None = None
    """The model that the chain of stages began with: the teacher. By default the trained model itself."""
    metric: str | None = None
    """The metric of the held-out data, ``METRIC[:OUTPUT]``; by default that of the data."""
    seed: int = 0
    checkpoints: Path | None = None
    """A folder that outlives a killed run; without one, no checkpoints are written."""
    deadline: float | None = None
    """The end of training at the latest, in seconds of the monotonic clock."""
    progress: Progress = no_progress
