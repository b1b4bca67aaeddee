"""One stage carried out for one verb: open the model, export it first where it is a torch model, apply the stage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from optkit.data import splits
from optkit.data.splits import Parts
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.notes import Note
from optkit.options.data import CalibrationSize
from optkit.options.measuring import TargetOption
from optkit.options.option import Options
from optkit.progress import Progress, no_progress
from optkit.records.run import StageRecord
from optkit.runs import store
from optkit.runs.execution import carry_out
from optkit.runs.store import Store
from optkit.stages.stage import Context, Interrupted, Outcome, Stage, stage_class


@dataclass(frozen=True)
class StageRequest:
    """The options that verbs of one stage have in common, and callbacks."""

    model: str | Path
    inputs: tuple[str, ...]
    code: str | None
    trust: bool
    seed: int
    target: str = TargetOption().target
    data: str | Path | None = None
    train_data: str | Path | None = None
    calibration: str | Path | None = None
    calibration_samples: int = CalibrationSize().calibration_samples
    metric: str | None = None
    threads: int | None = None
    progress: Progress = no_progress
    keep: Callable[[Model], str] | None = None
    """Writes the best model so far of an interrupted stage, and returns a sentence on where it is."""
    exports: bool = False
    """True if the result of a stage that trains is exported: a trial export then comes before the training."""

    @classmethod
    def of(cls, options: Options, progress: Progress, **more: Any) -> StageRequest:
        """Take from ``options`` the fields of the same names; ``more`` are the others."""
        names = {each.name for each in fields(cls)} & set(type(options).model_fields)
        return cls(**{name: getattr(options, name) for name in names}, progress=progress, **more)


@dataclass(frozen=True)
class Transformed:
    """The source model, the float model that the stage worked on, and the outcome."""

    request: StageRequest
    source: Model
    floating: Model
    outcome: Outcome
    record: StageRecord
    parts: Parts
    notes: tuple[Note, ...]
    exported: StageRecord | None = None

    @property
    def stages(self) -> list[StageRecord]:
        """Records of all stages carried out, in order."""
        return [self.record] if self.exported is None else [self.exported, self.record]


@contextmanager
def transformed(stage: Stage, request: StageRequest) -> Iterator[Transformed]:
    """Carry out ``stage``; its files last as long as the context. Raises OptkitError."""
    source = opening.open(request.model, inputs=request.inputs, code=request.code, trust=request.trust)
    parts = split(request, source, calibrates=stage.needs_calibration, trains=stage.trains)
    with tempfile.TemporaryDirectory(prefix="optkit-") as name:
        context = Context(
            Path(name) / stage.name,
            parts.calibration,
            parts.evaluation,
            request.target,
            request.seed,
            request.progress,
            training=parts.training,
            original=source,
            metric=request.metric,
            threads=request.threads,
        )
        with _checkpoints(stage, source, context) as folder:
            context = replace(context, checkpoints=folder)
            aside = replace(context, workdir=Path(name) / "float")
            first = stage.takes_torch and not stage.trains
            if first:  # the export is what its result is compared with, and no mistake should wait for it
                outcome, record = _applied(stage, source, context, request)
            elif stage.trains:
                stage.check(source, context)
            floating, notes, exported = _exported(source, stage, aside, exports=request.exports)
            if not first:
                model = source if stage.takes_torch else floating
                outcome, record = _applied(stage, model, context, request)
            yield Transformed(request, source, floating, outcome, record, parts, notes, exported)


def _applied(stage: Stage, model: Model, context: Context, request: StageRequest) -> tuple[Outcome, StageRecord]:
    context.workdir.mkdir()
    context.progress(stage.name, 0, None)
    try:
        return carry_out(stage, model, context)
    except Interrupted as stopped:
        if request.keep is None:
            raise
        raise KeyboardInterrupt(request.keep(stopped.finish())) from None


@contextmanager
def _checkpoints(stage: Stage, model: Model, context: Context) -> Iterator[Path | None]:
    """Give a folder for checkpoints, kept for the next try unless all goes well."""
    if not stage.trains:
        yield None
        return
    cache = Store()
    with cache.using():
        folder = cache.checkpoints(store.key(stage, model, context))
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def split(request: StageRequest, source: Model, *, calibrates: bool, trains: bool = False) -> Parts:
    """Split the data into training, calibration and evaluation parts as wanted, and check it against the model."""
    inputs = None if source.signature is None else source.signature.inputs
    found = splits.parts(
        request.data,
        request.calibration,
        inputs,
        training=request.train_data,
        calibration_samples=request.calibration_samples,
        seed=request.seed,
        calibrates=calibrates,
        trains=trains,
    )
    if inputs is not None:
        for part in filter(None, (found.training, found.calibration, found.evaluation)):
            part.check(inputs)
    return found


def _exported(
    source: Model, stage: Stage, context: Context, *, exports: bool
) -> tuple[Model, tuple[Note, ...], StageRecord | None]:
    """Export the float model where it is a torch model; return it with notes and the record of the export."""
    if source.format not in TORCH_FORMATS or stage.name == "export" or (stage.makes_torch and not exports):
        return source, (), None
    context.workdir.mkdir()
    context.progress("export", 0, None)
    outcome, record = carry_out(stage_class("export")(), source, context)
    if stage.makes_torch:
        return outcome.model, (), None
    return outcome.model, (Note("exported to ONNX first", source.path.name), *outcome.notes), record
