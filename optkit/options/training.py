"""Options on training."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from optkit.options.option import Options


class Schedule(Options):
    """Length and step size of a training: fields of all stages that train."""

    group: ClassVar[str] = "Training"

    epochs: int = Field(5, ge=1, description="Passes over the training data, at most.")
    batch_size: int = Field(64, ge=1, description="Samples per training step.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate; by default the best of five tried."
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    patience: int = Field(3, ge=1, description="Epochs without a lower held-out loss after which training stops.")
