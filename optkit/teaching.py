"""One lesson: a student module learns from the model that came in, on the training data, as its metric asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from optkit import checkpoint, metrics, splits, torchoutputs, training
from optkit.data import Dataset
from optkit.errors import SignatureError, UsageError
from optkit.metrics import Metric
from optkit.model import Model
from optkit.objectives import Match, Objective, Weights, task_loss
from optkit.samples import Drawn, Samples
from optkit.schedule import Schedule
from optkit.stage import Context
from optkit.tensors import Arrays, Signature, TensorSpec
from optkit.training import Course, Judge

MODULES = ("module", "state-dict")
"""Formats that hold a module, whose layers can be changed and trained."""
_TASK = 0.5
"""How much labels count beside a teacher."""
_EVALUATED = 64
"""Samples at a time where nothing is trained."""
_CLASSES = ("accuracy", "top5", "f1", "agreement")


def check(model: Model, context: Context, verb: str) -> None:
    """Refuse what cannot be trained: a model without modules or known inputs, no training data. Raises UsageError."""
    if model.format not in MODULES:
        raise UsageError(
            f"{model.path}: {verb} changes and trains modules of PyTorch, and {model.format} holds none",
            hint="give its state dict with the code that builds it: weights.pth --code net.py:build",
        )
    if model.signature is None or not model.signature.inputs:
        raise SignatureError(
            f"{model.path} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
        )
    if context.training is None:
        raise UsageError(f"{verb} learns from data", hint="give --data (part of it trains), or --train-data")


@dataclass(frozen=True)
class Lesson:
    """What a stage that trains has in common: samples, metric, teacher. ``model`` is what the stage works on."""

    model: Model
    context: Context
    schedule: Schedule

    @cached_property
    def data(self) -> tuple[Samples, Samples]:
        """What to learn from, and what to watch it on; on the device that trains."""
        learnt, watched = splits.held_out(self._dataset, seed=self.context.seed)
        device = training.device()
        return tuple(Samples(part, self.inputs, device, self.context.progress) for part in (learnt, watched))  # type: ignore[return-value]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.model.signature.inputs if self.model.signature else ()

    @property
    def _dataset(self) -> Dataset:
        if self.context.training is None:
            raise UsageError("training needs data", hint="give --data or --train-data")
        return self.context.training

    @cached_property
    def metric(self) -> Metric:
        """What the held-out data are judged by: the one asked for, or the data's default."""
        return metrics.choose(self.context.metric, self._dataset, self.model.signature or Signature(()))

    @cached_property
    def teacher(self) -> Any:
        """The model that the chain of stages began with, as a module that learns nothing, on the device that trains."""
        return frozen(self.context.original or self.model)

    def example(self, size: int = 2) -> Drawn:
        """The first held-out samples."""
        return self.data[1].draw(range(min(size, len(self.data[1]))))

    def weights(self, **given: float | None) -> Weights:
        """The weights given; where none is, labels count beside the teacher if there are some."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return Weights(**({"task": _TASK if self.metric.needs == "labels" else 0.0} | chosen))

    def objective(
        self,
        student: Any,
        weights: Weights,
        *,
        match: Match | None = None,
        layers: Sequence[tuple[str, str]] = (),
        teacher: Any = None,
    ) -> Objective:
        """The student's losses. Without ``match``, the metric says whether outputs are classes or values."""
        by_metric: Match = "kl" if self.metric.name in _CLASSES else "mse"
        names = [spec.name for spec in self.inputs]
        taught = self.teacher if teacher is None else teacher
        return Objective(student, taught, names, weights, match or by_metric, self.metric.output, layers)

    def loss(self, objective: Objective, most: int) -> float:
        """The held-out loss on ``most`` samples."""
        import torch

        watched = self.data[1]
        objective.student.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for drawn in watched.in_order(_EVALUATED):
                total += float(objective(drawn, keep=True).total) * len(drawn.rows)
                count += len(drawn.rows)
                if count >= most:
                    break
        return total / count

    def learn(self, module: Any, most: int) -> None:
        """Leave the gradients of what the module is for in its parameters, from ``most`` training samples.

        That is the labels' loss; without labels the squares of the outputs, for beside its own teacher a module has no
        gradients.
        """
        module.zero_grad(set_to_none=True)
        module.eval()
        seen = 0
        for drawn in self.data[0].epoch(_EVALUATED, seed=self.context.seed, epoch=0):
            outputs = torchoutputs.named(module(*drawn.inputs))
            name = self.metric.output or next(iter(outputs))
            if drawn.labels is not None and self.metric.needs == "labels":
                loss = task_loss(name, outputs[name], drawn.labels)
            else:
                loss = sum(value.float().square().mean() for value in outputs.values() if value.is_floating_point())
            loss.backward()
            seen += len(drawn.rows)
            if seen >= most:
                break

    def course(
        self,
        objective: Objective,
        label: str,
        *,
        constrain: Callable[[], None] | None = None,
        epochs: int | None = None,
        rate: float | None = None,
    ) -> Course:
        """The training towards ``objective``, called ``label`` as its checkpoints are; as the schedule says, but for
        ``epochs`` and, where it says none, the learning ``rate``.
        """
        train, watched = self.data
        place = self.context.checkpoints
        changes = {"epochs": epochs or self.schedule.epochs, "learning_rate": self.schedule.learning_rate or rate}
        schedule = self.schedule.model_copy(update=changes)
        return Course(
            objective,
            train,
            watched,
            schedule,
            seed=self.context.seed,
            judge=Judge(str(self.metric), lambda judged: self._judged(objective, judged)),
            checkpoints=None if place is None else place / label.replace(" ", "-"),
            constrain=constrain,
            label=label,
            progress=self.context.progress,
        )

    def _judged(self, objective: Objective, judged: Iterator[tuple[dict[str, Any], Drawn]]) -> float:
        parts = []
        for outputs, drawn in judged:
            feed = _arrays({spec.name: value for spec, value in zip(self.inputs, drawn.inputs, strict=True)})
            if self.metric.needs == "labels":
                truth: Any = None if drawn.labels is None else drawn.labels.cpu().numpy()
            else:
                truth = _arrays(objective.reference(drawn))
            parts.append(self.metric.observations(_arrays(outputs), truth, feed))
        return self.metric.aggregate(metrics.join(parts))


def frozen(model: Model) -> Any:
    """The model as a callable module that learns nothing, on the device that trains. Raises ModelError."""
    loaded = checkpoint.load(model)
    module = loaded.module() if model.format == "exported-program" else loaded
    return module.requires_grad_(False).to(training.device())


def runs(module: Any, drawn: Drawn) -> dict[str, Any]:
    """The module's outputs for a batch, in eval mode. Raises whatever the module raises."""
    import torch

    was, module = module.training, module.eval()
    try:
        with torch.no_grad():
            return torchoutputs.named(module(*drawn.inputs))
    finally:
        module.train(was)


def _arrays(tensors: dict[str, Any]) -> Arrays:
    return {
        name: np.asarray(value.detach().float().cpu() if value.is_floating_point() else value.cpu())
        for name, value in tensors.items()
    }
