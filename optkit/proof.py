"""What a transformation brought: the float model that went in and what came out, side by side on the same target."""

from __future__ import annotations

from dataclasses import replace

from optkit import comparison
from optkit.model import Model
from optkit.results import Comparison, Row
from optkit.stage import Note
from optkit.transformation import Transformed
from optkit.worker import candidate


def compared(done: Transformed, after: Model, metric: str | None, max_drop: float | None, seconds: float) -> Comparison:
    """``after`` beside the float model that it was made of, on the evaluation data where there are some."""
    request, dataset = done.request, done.parts.evaluation
    before = candidate(done.floating, target=request.target, threads=request.threads)
    return comparison.side_by_side(
        [
            replace(before, name=f"{done.source.path.name} (float)"),
            candidate(after, target=request.target, threads=request.threads),
        ],
        dataset=dataset,
        metric=metric if dataset else None,
        max_drop=max_drop if dataset else None,
        seconds=seconds,
        seed=request.seed,
        threads=request.threads,
        progress=request.progress,
    )


def verdict(compared: Comparison) -> list[Note]:
    """Warnings where the result is no improvement."""
    result: Row = compared.rows[-1]
    if result.status == "failed":
        return [Note(f"the result does not run: {result.reason}", level="warning")]
    loss = result.quality.loss if result.quality else None
    notes = []
    if result.speed_verdict == "slower":
        notes.append(
            Note("the result is slower than what came in: keep the original if speed is the goal", level="warning")
        )
    if loss is not None and compared.max_drop is not None and loss.value > compared.max_drop:
        notes.append(Note(f"the loss {loss.value:.4f} is beyond --max-drop {compared.max_drop:g}", level="warning"))
    return notes
