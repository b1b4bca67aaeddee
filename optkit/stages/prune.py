"""Prune: a smaller graph of the same model: the least important units cut, the others trained again."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from optkit import units
from optkit.errors import StageError, UsageError
from optkit.formats.model import Model
from optkit.formats.torch import loading
from optkit.formats.torch.saving import save_module
from optkit.formats.torch.structure import Structure
from optkit.lazy import did_you_mean
from optkit.measurement.candidate import check_present  # fmt: skip
from optkit.notes import Note
from optkit.options.training import Schedule
from optkit.options.verbs.prune import Pattern, PruneOptions
from optkit.records.record import Interval
from optkit.stages.measured_speedup import SpeedupTimer
from optkit.stages.stage import Context, Interrupted, Outcome, Stage
from optkit.system import atomic, native
from optkit.targets.target import offered, target
from optkit.training import schedule
from optkit.training.device import choose_device
from optkit.training.lesson import Lesson, check_trainable, runs
from optkit.training.loop import Stopped
from optkit.training.objectives import Objective
from optkit.training.pruning import layer_stacks
from optkit.training.pruning import selection as pruning_selection
from optkit.training.pruning.masks import Masks, smallest
from optkit.training.pruning.selection import Pruner, Survey

_PROBE = 512
"""Held-out samples that measure the damage of a cut."""
_LEARNT = 256
"""Training samples that leave the gradients or activations that importance is told by."""


class Prune(PruneOptions, Schedule, Stage):
    """Units of a module cut, in ``steps`` with training between them, until ``sparsity`` of its operations or
    parameters are gone or it is faster by ``target_speedup`` as measured on the target; ``drop_layers`` whole layers
    first. Layers are ranked by how much the loss grows when each is cut alone, and outliers are spared.
    """

    name: ClassVar[str] = "prune"

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """Only a measured speed-up depends on the target."""
        return self.target_speedup is not None

    @property
    def takes_torch(self) -> bool:
        return True

    @property
    def makes_torch(self) -> bool:
        return True

    @property
    def trains(self) -> bool:
        return True

    def check(self, model: Model, context: Context) -> None:
        """Refuse models that cannot be cut or trained, and options that set no pruning ratio."""
        check_trainable(model, context.training, "prune")
        if self.sparsity is not None and self.target_speedup is not None:
            raise UsageError("sparsity and target_speedup both say how much to cut", hint="give one of them")
        if self.target_speedup:
            check_present(target(context.target))
        if self.pattern == "structured" and not (self.sparsity or self.target_speedup or self.drop_layers):
            raise UsageError(
                "no pruning ratio is given", hint="--sparsity 0.5, --target-speedup 1.5 or --drop-layers 2"
            )
        if self.pattern != "structured" and (self.target_speedup or self.drop_layers):
            raise UsageError(
                f"zeros ({self.pattern}) make no dense kernel faster and leave out no layers",
                hint="--pattern structured",
            )
        if self.pattern == "2:4" and self.sparsity is not None:
            raise UsageError("2:4 sets half of the weights to zero, and no other share", hint="leave --sparsity out")
        if self.pattern == "unstructured" and self.sparsity is None:
            raise UsageError("no share of weights to set to zero is given", hint="--sparsity 0.8")

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write the pruned model. Raises StageError where nothing can be cut or the speed-up cannot be reached."""
        started = time.monotonic()
        lesson = Lesson(model, context.training_setup(), self)
        module = loading.load(model).requires_grad_(True).to(choose_device())
        names = dict(module.named_modules())
        for given in self.exclude:
            if given not in names:
                raise UsageError(f"--exclude {given}: no layer of this name", hint=did_you_mean(given, list(names)))
        kind = _Cutting if self.pattern == "structured" else _Zeroing
        work = kind(self, context, lesson, module)
        try:
            work.run()
        except Stopped:
            raise Interrupted(lambda: save_module(work.module, model, context.workdir, work.left)) from None
        result = save_module(work.module, model, context.workdir, work.left)
        seconds = time.monotonic() - started
        return Outcome(result, tuple(work.notes), "torch-pruning", self.pattern, seconds, work.facts)


@dataclass
class _Work:
    """A pruning in progress: the module, the layers left of it, notes and facts."""

    stage: Prune
    context: Context
    lesson: Lesson
    module: Any
    left: Structure = field(default_factory=Structure)
    notes: list[Note] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=lambda: {"training": []})
    rate: float | None = None
    """The learning rate that the first training chose."""

    def objective(self, module: Any) -> Objective:
        return self.lesson.objective(module, self.lesson.weights())

    def train(self, label: str, masks: Masks | None = None, epochs: int | None = None) -> None:
        """Train the module to recover."""
        constrain = None if masks is None else (lambda: masks.put_on(self.module))
        course = self.lesson.course(
            self.objective(self.module), label, constrain=constrain, epochs=epochs, rate=self.rate
        )
        history = course.run()
        self.rate = history.learning_rate
        self.facts["training"].append({"label": label} | history.to_facts())
        self.notes += [Note(note.text, label, note.level) for note in schedule.notes(history)]


class _Zeroing(_Work):
    """Weights set to zero and kept there."""

    def run(self) -> None:
        pattern: Pattern = "2:4" if self.stage.pattern == "2:4" else "unstructured"
        masks = smallest(self.module, pattern, self.stage.sparsity or 0.5, self.stage.exclude)
        masks.put_on(self.module)
        self.train("recovery", masks)
        self.facts["zeros"] = masks.share
        told = f"{units.percent(masks.share)} of the weights are zero ({self.stage.pattern})"
        self.notes += [
            Note(f"{told}: the file packs better, and is no smaller by itself"),
            *(Note(each.zeros, each.name) for each in offered() if each.zeros),
        ]


class _Cutting(_Work):
    """Layers, channels, neurons and heads removed."""

    def run(self) -> None:
        before = self._sizes()
        if self.stage.drop_layers:
            self._drop_layers()
        if self.stage.sparsity or self.stage.target_speedup:
            self._cut_units()
        else:
            self.train("recovery")
        after = self._sizes()
        self.facts |= {"before": before, "after": after}
        cuts = [f"{name} {units.count(int(before[name]))} -> {units.count(int(after[name]))}" for name in before]
        self.notes.insert(0, Note("; ".join(cuts)))

    def _sizes(self) -> dict[str, float]:
        return {
            "macs": pruning_selection.macs(self.module, self._example),
            "parameters": float(pruning_selection.parameters(self.module)),
        }

    @property
    def _example(self) -> Any:
        return self.lesson.example

    def _pruner(self) -> Pruner:
        stage = self.stage
        return Pruner(
            self._example,
            self._loss,
            self._learn,
            importance=stage.importance,
            scope=stage.scope,
            of=stage.of,
            round_to=stage.round_to,
            exclude=stage.exclude,
            progress=self.context.progress,
        )

    def _cut_units(self) -> None:
        pruner = self._pruner()
        whole = pruner.cost(self.module)
        survey = pruner.survey(self.module)
        if self.stage.target_speedup:
            savings = self._noted("savings", lambda: self._timer.savings(pruner, self.module, survey.found))
            survey = replace(survey, found=[replace(each, saved=savings[each.group.name]) for each in survey.found])
        self._tell(survey)
        if not any(not each.fragile for each in survey.found):
            raise StageError(f"{self.lesson.model.path}: nothing can be cut: {_reasons(survey)}")
        for step in range(1, self.stage.steps + 1):
            order = pruner.order(self.module, survey)
            if self.stage.target_speedup:
                self.module = self._cut_to_speed(pruner, order, step)
            else:
                share = (1.0 - (self.stage.sparsity or 0.0)) ** (step / self.stage.steps)
                self.module = pruner.cut_to(self.module, order, share, whole)
            self.train(f"cut {step} of {self.stage.steps}", epochs=None if step == self.stage.steps else 1)
        left = pruner.cost(self.module) / whole
        if self.stage.sparsity and left > 1.0 - self.stage.sparsity:
            self.notes.append(
                Note(
                    f"{units.percent(1 - left)} of the {self.stage.of} could be cut, not {self.stage.sparsity:.0%}: "
                    "all other layers are fragile, excluded or cannot be cut",
                    level="warning",
                )
            )

    def _cut_to_speed(self, pruner: Pruner, order: list[pruning_selection.UnitBlock], step: int) -> Any:
        """Cut the fewest blocks that reach this step's share of the speed-up, as measured on the target."""
        wanted = self.stage.target_speedup or 1.0

        def measured() -> dict[str, Any]:
            if step == 1:
                self._check_reachable(wanted, self._timer.furthest(pruner, self.module, order))
            now = wanted ** (step / self.stage.steps)
            chosen, reached = self._timer.blocks_for(now, wanted, pruner, self.module, order)
            if step == self.stage.steps and len(chosen) == len(order):
                self._check_reachable(wanted, reached)
            return {"blocks": chosen, "speedup": {"value": reached.value, "low": reached.low, "high": reached.high}}

        found = self._noted(f"cut-{step}", measured)
        self.facts["speedup"] = found["speedup"]
        return pruner.cut(self.module, [order[number] for number in found["blocks"]])

    def _check_reachable(self, wanted: float, found: Interval) -> None:
        if found.high < wanted:
            raise StageError(
                f"{self.lesson.model.path}: {wanted:g}x cannot be reached on {self.context.target} by pruning: "
                f"with all cut that can be, {units.ratio_interval(found.value, found.low, found.high)}",
                hint="a lower --target-speedup, --drop-layers, or quantize --int8 on top",
            )

    def _noted(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure once and keep the result under ``name``: a run resumed after a kill must cut the same."""
        place = self.context.checkpoints
        noted = None if place is None else place / f"{name}.json"
        if noted is not None and noted.is_file():
            found: dict[str, Any] = json.loads(noted.read_text())
            return found
        found = measure()
        if noted is not None:
            atomic.write_text(noted, json.dumps(found), force=True)
        return found

    @cached_property
    def _timer(self) -> SpeedupTimer:
        return SpeedupTimer(self.context, self.context.original or self.lesson.model, self._write)

    def _write(self, module: Any, folder: Path) -> Model:
        return save_module(module, self.lesson.model, folder, self.left)

    def _drop_layers(self) -> None:
        """Remove the layers whose absence alone increases the loss least."""
        example = self._example
        stacks = layer_stacks.stacks(self.module, lambda module: runs(module, example))
        every = [(name, index) for name, indices in stacks.items() for index in indices]
        if len(every) <= self.stage.drop_layers:
            raise StageError(
                f"{self.lesson.model.path}: {self.stage.drop_layers} layers to drop, and {len(every)} that may be",
                hint="a layer may be dropped whose output has the shape of its input, in a ModuleList or Sequential",
            )
        damages = sorted((self._without([each]), each) for each in every)
        chosen = [each for _, each in damages[: self.stage.drop_layers]]
        self.module, self.left = self._dropped(chosen)
        self.facts["layers"] = [{"layer": layer_stacks.child(*each), "damage": damage} for damage, each in damages]
        self.notes.append(Note(f"layers left out: {', '.join(layer_stacks.child(*each) for each in sorted(chosen))}"))

    def _without(self, chosen: list[tuple[str, int]]) -> float:
        what = f"{self.lesson.model.path}: without layer {layer_stacks.child(*chosen[0])} it fails"
        with native.foreign(what, hint="leave --drop-layers out"):
            return self._loss(self._dropped(chosen)[0])

    def _dropped(self, chosen: list[tuple[str, int]]) -> tuple[Any, Structure]:
        copied = copy.deepcopy(self.module)
        dropped: dict[str, list[int]] = {}
        for name, index in chosen:
            dropped.setdefault(name, []).append(index)
        return copied, layer_stacks.leave_out(copied, dropped)

    def _loss(self, module: Any) -> float:
        """Compute the held-out loss on a part of the samples."""
        return self.lesson.loss(self.objective(module), _PROBE)

    def _learn(self, module: Any) -> None:
        self.lesson.learn(module, _LEARNT)

    def _tell(self, survey: Survey) -> None:
        self.facts["sensitivity"] = [
            {"layer": each.group.name, "kind": each.group.kind, "damage": each.damage, "saved": each.saved}
            for each in survey.found
        ]
        self.facts["refused"] = survey.refused
        fragile = [each.group.name for each in survey.found if each.fragile]
        if fragile:
            self.notes.append(Note(f"spared as fragile: {', '.join(fragile)}"))
        for reason in sorted(set(survey.refused.values())):
            names = [name for name, why in survey.refused.items() if why == reason]
            self.notes.append(Note(f"not cut: {reason}", units.listed(names)))


def _reasons(survey: Survey) -> str:
    found = "; ".join(f"{name}: {reason}" for name, reason in list(survey.refused.items())[:3])
    return found or "all layers are fragile"
