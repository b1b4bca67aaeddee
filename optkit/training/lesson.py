"""One lesson: a student module learns from the model that came in, on the training data, as its metric asks."""

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
from optkit.formats.torch import outputs as torch_outputs
from optkit.metrics import metric as metrics
from optkit.metrics.metric import Metric
from optkit.stages.stage import Context
from optkit.training import device as devices
from optkit.training.loop import Course, Judge
from optkit.training.objectives import Kept, Match, Objective, Weights, task_loss
from optkit.training.samples import Drawn, Samples
from optkit.training.schedule import Schedule

MODULES = ("module", "state-dict")
"""Formats that hold a module, whose layers can be changed and trained."""
_TASK = 0.5
"""How much labels count beside a teacher."""
_EVALUATED = 64
"""Samples at a time where nothing is trained."""
_SOME = 300
"""Samples in which ranges are seen before training; as many as calibrate by default."""
_VALUES = ("mae", "rmse", "pearson", "spearman")
"""Metrics of real values, also where these are whole numbers."""
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
        device = devices.device()
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

    @cached_property
    def example(self) -> Drawn:
        """The first held-out samples: two, or one whole feed."""
        watched = self.data[1]
        return watched.draw(range(1 if watched.whole_feeds else min(2, len(watched))))

    @cached_property
    def taught(self) -> dict[str, Any]:
        """What the teacher gives for the example. Raises MetricError, DataError where the metric does not fit that."""
        outputs = runs(self.teacher, self.example)
        self._observed(outputs, outputs, self.example)
        return outputs

    @cached_property
    def _kept(self) -> Kept:
        """The teacher's outputs, which all objectives of the lesson share."""
        return Kept()

    def check_outputs(self, student: Any) -> None:
        """Refuse a student whose outputs are not its teacher's, in name and shape. Raises UsageError."""
        own = {name: list(value.shape) for name, value in runs(student, self.example).items()}
        taught = {name: list(value.shape) for name, value in self.taught.items()}
        if own != taught:
            raise UsageError(
                f"the student gives {_listed(own)}, and its teacher {_listed(taught)}",
                hint="name the outputs alike (a dict of them), and give them the same shapes",
            )

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
    ) -> Objective:
        """The student's losses. Without ``match``, the metric says whether outputs are classes or values."""
        by_metric: Match = "kl" if self.metric.name in _CLASSES else "mse"
        names = [spec.name for spec in self.inputs]
        output = self.metric.output or next(iter(self.taught))
        values = self.metric.name in _VALUES
        how = match or by_metric
        return Objective(student, self.teacher, names, weights, output, how, values, layers, self._kept)

    def loss(self, objective: Objective, most: int) -> float:
        """The held-out loss on ``most`` samples."""
        import torch

        watched = self.data[1]
        objective.student.eval()
        objective.remember(islice(watched.in_order(self._at_a_time), -(-most // self._at_a_time)))
        total, count = 0.0, 0
        with torch.no_grad():
            for drawn in watched.in_order(self._at_a_time):
                total += float(objective(drawn).total) * len(drawn.rows)
                count += len(drawn.rows)
                if count >= most:
                    break
        return total / count

    def run_some(self, module: Any) -> None:
        """Run the module on training samples, some hundreds."""
        seen = 0
        for drawn in self.data[0].in_order(self._at_a_time):
            runs(module, drawn)
            seen += len(drawn.rows)
            if seen >= _SOME:
                break

    def learn(self, module: Any, most: int) -> None:
        """Leave the gradients of what the module is for in its parameters, from ``most`` training samples.

        That is the labels' loss; without labels the squares of the outputs, for beside its own teacher a module has no
        gradients.
        """
        module.zero_grad(set_to_none=True)
        module.eval()
        seen = 0
        for drawn in self.data[0].epoch(self._at_a_time, seed=self.context.seed, epoch=0):
            outputs = torch_outputs.named(module(*drawn.inputs))
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
    def _at_a_time(self) -> int:
        """Samples at a time where nothing is trained: no more than what is trained on at once."""
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
        """The training towards ``objective``, called ``label`` as its checkpoints are; as the schedule says, but for
        ``epochs`` and, where it says none, the learning ``rate``. In float32 only without ``mixed`` precision.
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
            Judge(
                str(self.metric),
                lambda outputs, drawn: self._observed(outputs, objective.reference(drawn), drawn),
                lambda rows: self.metric.aggregate(metrics.join(rows)),
            ),
            seed=self.context.seed,
            checkpoints=None if place is None else place / label.replace(" ", "-"),
            constrain=constrain,
            label=label,
            progress=self.context.progress,
            deadline=self.context.deadline,
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


def frozen(model: Model) -> Any:
    """The model as a callable module that learns nothing, on the device that trains. Raises ModelError."""
    loaded = loading.load(model)
    module = loaded.module() if model.format == "exported-program" else loaded
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.to(devices.device())


def runs(module: Any, drawn: Drawn) -> dict[str, Any]:
    """The module's outputs for a batch, in eval mode. Raises whatever the module raises."""
    import torch

    trained = module.training and not isinstance(module, torch.fx.GraphModule)
    if trained:
        module.eval()
    try:
        with torch.no_grad():
            return torch_outputs.named(module(*drawn.inputs))
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
