"""``compile``: a bundle for one target."""

from __future__ import annotations

from optkit.deployment import bundle
from optkit.errors import UsageError
from optkit.formats import bundle_manifest
from optkit.measurement import recording
from optkit.options.calling import takes
from optkit.options.verbs.compile import CompileCommand
from optkit.progress import Progress
from optkit.records.run import Transformation
from optkit.runs.single_stage import StageRequest, transformed
from optkit.stages.compile import Compile
from optkit.system import atomic
from optkit.targets.target import engine_builders
from optkit.targets.target import target as runtime


@takes(CompileCommand)
def compile(options: CompileCommand, progress: Progress) -> Transformation:
    """Write a bundle of ``model`` for ``target`` to the folder ``output``. Raises TargetError where it is refused."""
    if (options.compute_capability or options.shapes) and not runtime(options.target).builds_engines:
        given, builders = "compute_capability" if options.compute_capability else "shapes", engine_builders()
        raise UsageError(f"{given} is for {builders}, not for {options.target}", hint=f"--target {builders}")
    atomic.claim(options.output, force=options.force, marker=bundle_manifest.FILE_NAME)
    with transformed(options.part(Compile), StageRequest.of(options, progress)) as done:
        written = bundle.write(options.output, done.outcome.model, stages=done.stages, force=options.force)
        stage = done.record.model_copy(update={"result": recording.of_model(written)})
        return Transformation(output=str(options.output), stage=stage, notes=list(done.notes))
