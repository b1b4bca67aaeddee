"""``distill``: a smaller student that learns from the model, and the proof of what it kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from optkit.progress import Progress, no_progress
from optkit.records.run import Transformation
from optkit.runs import trained_stage
from optkit.runs.single_stage import Request
from optkit.stages.distill import Distill
from optkit.stages.stage import made
from optkit.training.objectives import Match


def distill(
    teacher: str | Path,
    output: str | Path | None = None,
    *,
    student: str | Path | None = None,
    student_code: str | None = None,
    layers: int | None = None,
    data: str | Path | None = None,
    train_data: str | Path | None = None,
    match: Literal["auto"] | Match = "auto",
    temperature: float = 2.0,
    logits: float = 1.0,
    hidden: float | None = None,
    attention: float | None = None,
    task: float | None = None,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    patience: int = 3,
    metric: str | None = None,
    max_drop: float | None = None,
    target: str = "onnxruntime",
    measure: bool = True,
    threads: int | None = None,
    seconds: float = 5.0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
) -> Transformation:
    """Train a student to do what ``teacher`` does and, unless ``measure`` is false, compare both on ``target``.

    The student is a file, what ``student_code`` builds, or the teacher with so many of its ``layers`` left. Killed, and
    started again in the same way, it goes on from its last checkpoint. Raises OptkitError.
    """
    stage = made(
        Distill,
        student=None if student is None else str(student),
        student_code=student_code,
        layers=layers,
        match=match,
        temperature=temperature,
        logits=logits,
        hidden=hidden,
        attention=attention,
        task=task,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        patience=patience,
    )
    request = Request(
        teacher,
        inputs,
        code,
        trust,
        data,
        target=target,
        seed=seed,
        progress=progress,
        train=train_data,
        metric=metric,
        threads=threads,
    )
    return trained_stage.carry_out(
        stage,
        request,
        None if output is None else Path(output),
        max_drop=max_drop,
        measure=measure,
        seconds=seconds,
        force=force,
    )
