"""``export``: torch to ONNX, dynamic dimensions kept, parity checked."""

from __future__ import annotations

from pathlib import Path

from optkit.measurement import recording
from optkit.progress import Progress, no_progress
from optkit.records.run import Transformation
from optkit.runs.execution import place
from optkit.runs.single_stage import Request, transformed
from optkit.stages.export import Export
from optkit.system import atomic


def export(
    model: str | Path,
    output: str | Path,
    *,
    opset: int = 18,
    rtol: float = 1e-3,
    atol: float = 1e-4,
    data: str | Path | None = None,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
) -> Transformation:
    """Write ``model`` as ONNX to ``output``. Raises ParityError where the result computes something else."""
    atomic.claim(Path(output), force=force, suffixes=(".onnx",))
    request = Request(model, inputs=inputs, code=code, trust=trust, data=data, seed=seed, progress=progress)
    with transformed(Export(opset=opset, rtol=rtol, atol=atol), request) as done:
        placed = place(done.outcome.model, Path(output), force=force)
        stage = done.record.model_copy(update={"result": recording.of_model(placed)})
        return Transformation(output=str(output), stage=stage)
