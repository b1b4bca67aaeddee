"""The bundle: a deployable folder with a model, the target and options to run it with, and its measured quality and
speed-up.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from optkit.errors import UsageError
from optkit.formats import bundle_manifest, opening
from optkit.formats.bundle_manifest import MadeBy, Manifest, Speedup
from optkit.formats.model import Model
from optkit.formats.tensors import Signature
from optkit.measurement import recording
from optkit.records.comparison import QualityRecord
from optkit.records.run import StageRecord
from optkit.system import atomic, digests
from optkit.targets.libraries import fingerprint


def write(
    folder: Path,
    model: Model,
    *,
    stages: Sequence[StageRecord],
    quality: QualityRecord | None = None,
    speedup: Speedup | None = None,
    force: bool = False,
) -> Model:
    """Write a compiled model, with everything that its runtime needs, to ``folder`` atomically; return it opened.

    Raises UsageError for a model that was not compiled, OutputError if the folder cannot be written.
    """
    if model.target is None:
        raise UsageError(f"{model.path} was compiled for no target", hint="optkit compile MODEL --target TARGET")
    with atomic.writing(folder, force=force, marker=bundle_manifest.FILE_NAME) as aside:
        inside = aside / folder.name
        inside.mkdir()
        files = model.files
        names = {file.relative_to(model.path.parent).as_posix(): file for file in files}
        for name, file in names.items():
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, inside / name)
        written = Manifest(
            target=model.target,
            model=model.path.name,
            format=model.format,
            options=model.options,
            signature=recording.of_signature(model.signature or Signature(())),
            quality=quality,
            speedup=speedup,
            digests={name: digests.sha256(inside / name) for name in names},
            made_by=_made_by(stages),
        )
        (inside / bundle_manifest.FILE_NAME).write_text(written.to_json() + "\n")
    return opening.open(folder)


def _made_by(stages: Sequence[StageRecord]) -> MadeBy:
    here = fingerprint()
    steps = [{"stage": stage.stage, "engine": stage.engine, "method": stage.method} | stage.fields for stage in stages]
    versions = {library.name: library.version for library in here.libraries if library.version}
    return MadeBy(stages=steps, versions=versions, machine=here)
