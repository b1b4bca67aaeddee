"""One stage carried out for one verb: open, export a torch model first, apply, place the result, prove it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from optkit import data as datasets
from optkit import model as models
from optkit.data import Dataset
from optkit.execution import carry_out
from optkit.model import TORCH_FORMATS, Model
from optkit.runs import StageRecord
from optkit.stage import Context, Note, Outcome, Progress, Stage, no_progress, stage_class


@dataclass(frozen=True)
class Request:
    """What the verbs ``export``, ``quantize`` and ``compile`` have in common."""

    path: str | Path
    inputs: tuple[str, ...] = ()
    code: str | None = None
    trust: bool = False
    data: str | Path | None = None
    calibration: str | Path | None = None
    calibration_samples: int = 300
    target: str = "onnxruntime"
    seed: int = 0
    progress: Progress = no_progress


@dataclass(frozen=True)
class Transformed:
    """The model that came in, the float model that the stage worked on, and what it made of it."""

    source: Model
    floating: Model
    outcome: Outcome
    record: StageRecord
    calibration: Dataset | None
    evaluation: Dataset | None
    notes: tuple[Note, ...]
    exported: StageRecord | None = None

    @property
    def stages(self) -> list[StageRecord]:
        """All that was carried out, in order."""
        return [self.record] if self.exported is None else [self.exported, self.record]


@contextmanager
def transformed(stage: Stage, request: Request) -> Iterator[Transformed]:
    """Carry out ``stage``; its files last as long as the context. Raises OptkitError."""
    source = models.open(request.path, inputs=request.inputs, code=request.code, trust=request.trust)
    calibration, evaluation = split(request, source, wanted=stage.needs_calibration)
    with tempfile.TemporaryDirectory(prefix="optkit-") as name:
        context = Context(
            Path(name) / stage.name, calibration, evaluation, request.target, request.seed, request.progress
        )
        floating, notes, exported = _exported(source, stage, replace(context, workdir=Path(name) / "float"))
        context.workdir.mkdir()
        request.progress(stage.name, 0, None)
        outcome, record = carry_out(stage, source if stage.takes_torch else floating, context)
        yield Transformed(source, floating, outcome, record, calibration, evaluation, notes, exported)


def split(request: Request, source: Model, *, wanted: bool) -> tuple[Dataset | None, Dataset | None]:
    """Calibration and evaluation data that share no sample, checked against the model; all for evaluation where none is
    wanted to calibrate.
    """
    inputs = None if source.signature is None else source.signature.inputs
    found = datasets.parts(
        request.data,
        request.calibration,
        inputs,
        calibration_samples=request.calibration_samples,
        seed=request.seed,
        wanted=wanted,
    )
    if inputs is not None:
        for part in filter(None, found):
            part.check(inputs)
    return found


def _exported(source: Model, stage: Stage, context: Context) -> tuple[Model, tuple[Note, ...], StageRecord | None]:
    if source.format not in TORCH_FORMATS or stage.name == "export":
        return source, (), None
    context.workdir.mkdir()
    context.progress("export", 0, None)
    outcome, record = carry_out(stage_class("export")(), source, context)
    return outcome.model, (Note("exported to ONNX first", source.path.name), *outcome.notes), record
