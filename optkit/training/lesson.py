"""A lesson: a student module learns from a teacher, by default the model it was made from, on the training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from optkit.data import splits
from optkit.data.dataset import Dataset
from optkit.errors import DataError, SignatureError, UsageError
from optkit.formats.model import Model
from optkit.formats.tensors import Array, Arrays, Signature, TensorSpec
from optkit.formats.torch import loading
from optkit.formats.torch.outputs import named_outputs
from optkit.metrics.metric import Metric, choose_metric, join_outputs
from optkit.options.training import Schedule
from optkit.options.verbs.distill import Match
from optkit.training.device import choose_device
from optkit.training.loop import Course, Judge
from optkit.training.objectives import Objective, OutputCache, Weights, task_loss
from optkit.training.samples import Drawn, Samples
from optkit.training.setup import TrainingSetup

MODULES = ("module", "state-dict")
"""Formats that hold a module, whose layers can be changed and trained."""
_TASK = 0.5
"""Weight of the labels' loss beside a teacher's."""
_EVALUATED = 64
"""Batch size without training."""
_SOME = 300
"""Samples that calibrate ranges before training, as many as calibration has by default."""
_VALUES = ("mae", "rmse", "pearson", "spearman")
"""Metrics of real values; their labels may be whole numbers."""
_CLASSES = ("accuracy", "top5", "f1", "agreement")
"""Metrics of class decisions."""


def check_trainable(model: Model, training: Dataset | None, verb: str) -> None:
    """Refuse a model that cannot be trained, or missing training data.

    Raises UsageError for a format that holds no module and for no data, SignatureError for unknown inputs.
    """
    if model.format not in MODULES:
        raise UsageError(
            f"{model.path}: {verb} changes and trains modules of PyTorch, and {model.format} holds none",
            hint="give its state dict with the code that builds it: weights.pth --code net.py:build",
        )
    if model.signature is None or not model.signature.inputs:
        raise SignatureError(
            f"{model.path} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
        )
    if training is None:
        raise UsageError(f"{verb} needs training data", hint="give --data (part of it trains), or --train-data")


@dataclass(frozen=True)
class Lesson:
    """The samples, metric and teacher that the training of ``model`` works with."""

    model: Model
    setup: TrainingSetup
    schedule: Schedule

    @cached_property
    def data(self) -> tuple[Samples, Samples]:
        """The training and the held-out samples, on the device that trains."""
        learnt, held_out = splits.held_out(self._dataset, seed=self.setup.seed)
        device = choose_device()
        return tuple(Samples(part, self.inputs, device, self.setup.progress) for part in (learnt, held_out))  # type: ignore[return-value]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.model.signature.inputs if self.model.signature else ()

    @property
    def _dataset(self) -> Dataset:
        if self.setup.training is None:
            raise UsageError("training needs data", hint="give --data or --train-data")
        return self.setup.training

    @cached_property
    def metric(self) -> Metric:
        """The metric of the held-out data: the one asked for, or the data's default."""
        return choose_metric(self.setup.metric, self._dataset, self.model.signature or Signature(()))

    @cached_property
    def teacher(self) -> Any:
        """The teacher as a module without gradients, on the device that trains."""
        return load_frozen(self.setup.original or self.model)

    @cached_property
    def example(self) -> Drawn:
        """The first held-out samples: two, or one whole feed."""
        held_out = self.data[1]
        return held_out.draw(range(1 if held_out.whole_feeds else min(2, len(held_out))))

    @cached_property
    def taught(self) -> dict[str, Any]:
        """The teacher's outputs for the example. Raises MetricError or DataError if the metric does not fit them."""
        outputs = runs(self.teacher, self.example)
        self._observed(outputs, outputs, self.example)
        return outputs

    @cached_property
    def _cache(self) -> OutputCache:
        """The teacher's outputs, shared by all objectives of the lesson."""
        return OutputCache()

    def check_outputs(self, student: Any) -> None:
        """Raise a UsageError unless the student's outputs have the names and shapes of its teacher's."""
        own = {name: list(value.shape) for name, value in runs(student, self.example).items()}
        taught = {name: list(value.shape) for name, value in self.taught.items()}
        if own != taught:
            raise UsageError(
                f"the student's outputs are {_listed(own)}, its teacher's {_listed(taught)}",
                hint="give the outputs the same names (a dict of them) and the same shapes",
            )

    def weights(self, **given: float | None) -> Weights:
        """Return loss weights with the values given; by default labels count too if the metric needs them."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return Weights(**({"task": _TASK if self.metric.needs == "labels" else 0.0} | chosen))

    def objective(
        self,
        student: Any,
        weights: Weights,
        *,
        match: Match | None = None,
        layers: Sequence[tuple[str, str]] = (),
    ) -> Objective:
        """Make the student's objective. Without ``match``, outputs are matched as the metric takes them: ``kl`` for
        classes, ``mse`` for values.
        """
        by_metric: Match = "kl" if self.metric.name in _CLASSES else "mse"
        names = [spec.name for spec in self.inputs]
        output = self.metric.output or next(iter(self.taught))
        values = self.metric.name in _VALUES
        how = match or by_metric
        return Objective(student, self.teacher, names, weights, output, how, values, layers, self._cache)

    def loss(self, objective: Objective, most: int) -> float:
        """Compute the held-out loss on ``most`` samples, about."""
        import torch

        held_out = self.data[1]
        objective.student.eval()
        objective.remember(islice(held_out.in_order(self._batch_size), -(-most // self._batch_size)))
        total, count = 0.0, 0
        with torch.no_grad():
            for drawn in held_out.in_order(self._batch_size):
                total += float(objective(drawn).total) * len(drawn.rows)
                count += len(drawn.rows)
                if count >= most:
                    break
        return total / count

    def run_some(self, module: Any) -> None:
        """Run the module on some hundred training samples."""
        seen = 0
        for drawn in self.data[0].in_order(self._batch_size):
            runs(module, drawn)
            seen += len(drawn.rows)
            if seen >= _SOME:
                break

    def learn(self, module: Any, most: int) -> None:
        """Accumulate gradients of the task's loss in the module's parameters, over ``most`` training samples.

        The loss is that of the labels; without labels it is the mean square of the outputs, because the loss against
        its own teacher has no gradients.
        """
        module.zero_grad(set_to_none=True)
        module.eval()
        seen = 0
        for drawn in self.data[0].epoch(self._batch_size, seed=self.setup.seed, epoch=0):
            outputs = named_outputs(module(*drawn.inputs))
            name = self.metric.output or next(iter(outputs))
            if drawn.labels is not None and self.metric.needs == "labels":
                loss = task_loss(name, outputs[name], drawn.labels, values=self.metric.name in _VALUES)
            else:
                loss = sum(value.float().square().mean() for value in outputs.values() if value.is_floating_point())
            loss.backward()
            seen += len(drawn.rows)
            if seen >= most:
                break

    @property
    def _batch_size(self) -> int:
        """Batch size without training: at most that of training."""
        return min(_EVALUATED, self.schedule.batch_size)

    def course(
        self,
        objective: Objective,
        label: str,
        *,
        constrain: Callable[[], None] | None = None,
        epochs: int | None = None,
        rate: float | None = None,
        mixed: bool = True,
    ) -> Course:
        """Make the training towards ``objective``; ``label`` names it and its checkpoints.

        ``epochs`` replaces the schedule's; ``rate`` is the learning rate if the schedule has none. Without ``mixed``
        precision all arithmetic is in float32.
        """
        train, held_out = self.data
        place = self.setup.checkpoints
        changes = {"epochs": epochs or self.schedule.epochs, "learning_rate": self.schedule.learning_rate or rate}
        schedule = self.schedule.model_copy(update=changes)
        return Course(
            objective,
            train,
            held_out,
            schedule,
            Judge(
                str(self.metric),
                lambda outputs, drawn: self._observed(outputs, objective.reference(drawn), drawn),
                lambda rows: self.metric.aggregate(join_outputs(rows)),
            ),
            seed=self.setup.seed,
            checkpoints=None if place is None else place / label.replace(" ", "-"),
            constrain=constrain,
            label=label,
            progress=self.setup.progress,
            deadline=self.setup.deadline,
            mixed=mixed,
        )

    def _observed(self, outputs: dict[str, Any], reference: dict[str, Any], drawn: Drawn) -> Array:
        feed = _arrays({spec.name: value for spec, value in zip(self.inputs, drawn.inputs, strict=True)})
        if self.metric.needs == "reference":
            return self.metric.observations(_arrays(outputs), _arrays(reference), feed)
        labels = None if drawn.labels is None else drawn.labels.cpu().numpy()
        if labels is None:
            raise DataError(f"{self.metric}: the training data has no labels", hint="--metric cosine needs none")
        return self.metric.observations(_arrays(outputs), labels, feed)


def load_frozen(model: Model) -> Any:
    """Load the model as a callable module without gradients, on the device that trains. Raises ModelError."""
    loaded = loading.load(model)
    module = loaded.module() if model.format == "exported-program" else loaded
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.to(choose_device())


def runs(module: Any, drawn: Drawn) -> dict[str, Any]:
    """Run a batch through the module in eval mode and return its outputs by name. Errors of the module pass through."""
    import torch

    trained = module.training and not isinstance(module, torch.fx.GraphModule)
    if trained:
        module.eval()
    try:
        with torch.no_grad():
            return named_outputs(module(*drawn.inputs))
    finally:
        if trained:
            module.train()


def _listed(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name}{shape}" for name, shape in shapes.items())


def _arrays(tensors: dict[str, Any]) -> Arrays:
    return {
        name: np.asarray(value.detach().float().cpu() if value.is_floating_point() else value.cpu())
        for name, value in tensors.items()
    }
