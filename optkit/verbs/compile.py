"""``compile``: a bundle for one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optkit.deployment import bundle
from optkit.errors import UsageError
from optkit.formats import bundle_manifest
from optkit.measurement import recording
from optkit.progress import Progress, no_progress
from optkit.records.run import Transformation
from optkit.runs.single_stage import Request, transformed
from optkit.stages.compile import Compile
from optkit.stages.stage import made
from optkit.system import atomic


def compile(
    model: str | Path,
    output: str | Path,
    *,
    target: str,
    device: str | None = None,
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    compute_capability: Sequence[str] = (),
    shapes: Sequence[str] = (),
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
) -> Transformation:
    """Write a bundle of ``model`` for ``target`` to the folder ``output``. Raises TargetError where it is refused."""
    if target != "tensorrt" and (compute_capability or shapes):
        given = "compute_capability" if compute_capability else "shapes"
        raise UsageError(f"{given} is for tensorrt, not for {target}", hint="--target tensorrt")
    atomic.claim(Path(output), force=force, marker=bundle_manifest.FILE_NAME)
    request = Request(model, inputs=inputs, code=code, trust=trust, target=target, seed=seed, progress=progress)
    wanted = made(
        Compile,
        device=device,
        threads=threads,
        options=dict(options or {}),
        compute_capability=tuple(compute_capability),
        shapes=tuple(shapes),
    )
    with transformed(wanted, request) as done:
        written = bundle.write(Path(output), done.outcome.model, stages=done.stages, force=force)
        stage = done.record.model_copy(update={"result": recording.of_model(written)})
        return Transformation(output=str(output), stage=stage, notes=list(done.notes))
