"""Distill: train a smaller student on the outputs of the model."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from optkit.errors import StageError, UsageError
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.torch import loading
from optkit.formats.torch.saving import save_module
from optkit.formats.torch.structure import Structure
from optkit.notes import Note
from optkit.options.training import Schedule
from optkit.options.verbs.distill import DistillOptions, Match
from optkit.stages.stage import Context, Interrupted, Outcome, Stage
from optkit.system import native, user_code
from optkit.training import features, schedule
from optkit.training.device import choose_device, seed_everything
from optkit.training.lesson import MODULES, Lesson, check_trainable, runs
from optkit.training.loop import Stopped
from optkit.training.objectives import Weights
from optkit.training.pruning import layer_stacks


class Distill(DistillOptions, Schedule, Stage):
    """A student taught by the model that the chain of stages began with.

    The student is the file ``student``, or the module that ``student_code`` builds; else, behind other stages, their
    result; else a copy of the teacher with ``layers`` of its layers left. Default weights of the losses: outputs 1;
    labels 0.5 where there are some; hidden states 1 and attention 0 where the student has layers of the teacher's
    shapes.
    """

    name: ClassVar[str] = "distill"
    needs_target: ClassVar[bool] = False

    @property
    def takes_torch(self) -> bool:
        return True

    @property
    def makes_torch(self) -> bool:
        return True

    def makes(self, model: Model) -> str:
        if self.student is not None:
            return opening.open(self.student, code=self.student_code or model.code, trust=model.trusted).format
        return model.format if self.student_code is None else "state-dict"

    @property
    def trains(self) -> bool:
        return True

    @property
    def reads(self) -> tuple[Path, ...]:
        code = () if self.student_code is None else (user_code.file_of(self.student_code),)
        return (*code, *(() if self.student is None else (Path(self.student),)))

    def beside(self, folder: Path) -> Distill:
        moved = {
            name: os.path.normpath(folder / value)
            for name in ("student", "student_code")
            if (value := getattr(self, name)) is not None
        }
        return self.model_copy(update=moved)

    def check(self, model: Model, context: Context) -> None:
        """Refuse models that cannot teach or learn, and losses that are all off."""
        given = [name for name in ("student", "student_code", "layers") if getattr(self, name) is not None]
        if "layers" in given and len(given) > 1:
            raise UsageError(f"layers is for an automatic student, and {given[0]} gives one", hint="leave one out")
        if "layers" in given and self._chained(model, context):
            raise UsageError("layers is for an automatic student, and the stages before made one", hint="leave it out")
        if not self._brings_student and not self._chained(model, context):
            check_trainable(model, context.training, "distill")
        elif context.training is None or model.signature is None:
            check_trainable(replace(model, format="module"), context.training, "distill")
        if (context.original or model).format not in TORCH_FORMATS:
            raise UsageError(f"{model.path}: a teacher is a torch model, not {model.format}", hint="give its source")
        if context.training is not None and not context.training.labelled and not (self.logits or self.hidden):
            raise UsageError("the training data has no labels, and all losses on the teacher are 0", hint="--logits 1")
        if not (self.logits or self.hidden or self.attention or self.task):
            raise UsageError("nothing to learn: all of logits, hidden, attention and task are 0", hint="--logits 1")

    @property
    def _brings_student(self) -> bool:
        return self.student is not None or self.student_code is not None

    def _chained(self, model: Model, context: Context) -> bool:
        """True if stages before this one made the model, so that it is the student."""
        return context.original is not None and model.digest != context.original.digest

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write the trained student. Raises StageError where it does not run or learn."""
        lesson = Lesson(model, context.training_setup(), self)
        source, student, left, about = self._student(model, context, lesson)
        student.requires_grad_(True).to(choose_device())
        lesson.check_outputs(student)
        pairs = self._pairs(student, lesson)
        weights = lesson.weights(
            logits=self.logits,
            hidden=float(bool(pairs)) if self.hidden is None else self.hidden,
            attention=self.attention,
            task=self.task,
            temperature=self.temperature,
        )
        match = None if self.match == "auto" else self.match
        objective = lesson.objective(student, weights, match=match, layers=pairs)
        started = time.monotonic()
        try:
            history = lesson.course(objective, "distill").run()
        except Stopped:
            raise Interrupted(lambda: save_module(student, source, context.workdir, left)) from None
        result = save_module(student, source, context.workdir, left)
        facts = {"training": [{"label": "distill"} | history.to_facts()]}
        notes = (about, *_told(weights, objective.match, pairs), *schedule.notes(history))
        return Outcome(result, notes, "torch", "distillation", time.monotonic() - started, facts)

    def _student(self, model: Model, context: Context, lesson: Lesson) -> tuple[Model, Any, Structure | None, Note]:
        """Return the model that the student derives from, its module, the layers left, and a note on its origin."""
        if self.student is not None:
            source = opening.open(self.student, code=self.student_code or model.code, trust=model.trusted)
            source = replace(source, signature=source.signature or model.signature)
            check_trainable(source, context.training, "distill")
            return source, loading.load(source), None, Note(f"the student is {source.path.name}")
        if self.student_code is not None:
            file = user_code.file_of(self.student_code)
            source = replace(model, code=self.student_code, format="state-dict", path=file)
            seed_everything(context.seed)
            return (
                source,
                loading.build(source),
                None,
                Note(f"the student is built by {self.student_code}, untrained"),
            )
        if self._chained(model, context):
            return model, loading.load(model), None, Note("the student is the result of the stages before")
        student = loading.load(model)
        left, about = self._shallower(student, lesson)
        return model, student, left, about

    def _shallower(self, student: Any, lesson: Lesson) -> tuple[Structure, Note]:
        """Leave layers out of a copy of the teacher, evenly."""
        example = lesson.example
        found = layer_stacks.stacks(student, lambda module: runs(module, example))
        if not found:
            raise StageError(
                f"{lesson.model.path}: no repeated layers that could be left out",
                hint="give a student: --student-code net.py:small, or prune the model and distill that",
            )
        dropped, told = {}, []
        for name, droppable in found.items():
            wanted = min(self.layers or max(1, len(droppable) // 2), len(droppable))
            kept = [droppable[index] for index in layer_stacks.spread(len(droppable), wanted)]
            dropped[name] = [index for index in droppable if index not in kept]
            told.append(f"{name}: layers {', '.join(map(str, kept))} of {len(droppable)}")
        before = {name: value.shape for name, value in runs(student, example).items()}
        left = layer_stacks.leave_out(student, dropped)
        with native.foreign(f"{lesson.model.path}: without layers it fails", hint="give a student: --student"):
            after = {name: value.shape for name, value in runs(student, example).items()}
        if after != before:
            raise StageError(
                f"{lesson.model.path}: without layers its outputs have other shapes", hint="give a student"
            )
        return left, Note(f"the student keeps {'; '.join(told)}")

    def _pairs(self, student: Any, lesson: Lesson) -> list[tuple[str, str]]:
        """Pair layers of student and teacher: of the same stack, at the same relative depth."""
        teacher = lesson.setup.original or lesson.model
        if self.hidden == 0 or (teacher.format not in MODULES and self.hidden is None):
            return []
        example = lesson.example

        def run(module: Any) -> object:
            return runs(module, example)

        own, taught = (layer_stacks.named(module, run) for module in (student, lesson.teacher))
        candidates = [pair for name in own if name in taught for pair in features.pairs(own[name], taught[name])]
        found = features.matching(student, lesson.teacher, candidates, run)
        if not found and self.hidden:
            raise UsageError(
                "no layers of the student match the teacher's in name and shape: no hidden states to match",
                hint="leave --hidden out",
            )
        return found


def _told(weights: Weights, match: Match, pairs: list[tuple[str, str]]) -> tuple[Note, ...]:
    """Return notes on the losses and the matched layers."""
    values = {name: getattr(weights, name) for name in ("logits", "hidden", "attention", "task")}
    kinds = {"kl": f"classes, at temperature {weights.temperature:g}", "mse": "values"}
    losses = Note(
        f"losses: {', '.join(f'{name} x {value:g}' for name, value in values.items() if value)}; the teacher's outputs "
        f"count as {kinds[match]}"
    )
    if not pairs:
        return (losses,)
    shown = ", ".join(f"{own} to {taught}" for own, taught in pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    return losses, Note(f"{len(pairs)} layers are matched: {shown}")
