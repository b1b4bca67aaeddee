"""``prune``: a smaller graph of the same model, trained again, and the proof of what it kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from optkit.progress import Progress, no_progress
from optkit.records.run import Transformation
from optkit.runs import trained_stage
from optkit.runs.single_stage import Request
from optkit.stages.prune import Prune
from optkit.stages.stage import made
from optkit.training.pruning.dependencies import Importance
from optkit.training.pruning.masks import Pattern
from optkit.training.pruning.selection import Of, Scope


def prune(
    model: str | Path,
    output: str | Path | None = None,
    *,
    sparsity: float | None = None,
    of: Of = "macs",
    target_speedup: float | None = None,
    drop_layers: int = 0,
    pattern: Literal["structured"] | Pattern = "structured",
    importance: Importance = "taylor",
    scope: Scope = "global",
    steps: int = 3,
    round_to: int = 8,
    exclude: Sequence[str] = (),
    data: str | Path | None = None,
    train_data: str | Path | None = None,
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
    """Cut ``model`` by ``sparsity``, to a measured ``target_speedup`` or by whole layers, let it learn again, and
    compare both on ``target`` unless ``measure`` is false.

    Killed, and started again in the same way, it goes on from its last checkpoint. Raises OptkitError.
    """
    stage = made(
        Prune,
        sparsity=sparsity,
        of=of,
        target_speedup=target_speedup,
        drop_layers=drop_layers,
        pattern=pattern,
        importance=importance,
        scope=scope,
        steps=steps,
        round_to=round_to,
        exclude=tuple(exclude),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        patience=patience,
    )
    request = Request(
        model,
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
