"""What a student is trained to do: give its teacher's outputs, think along its layers, and get the labels right.

Soft targets with a temperature: Hinton et al., 2015. Squared error on outputs: Ba and Caruana, 2014. Hidden states and
attention of matched layers: Jiao et al. (TinyBERT), 2020; Wang et al. (MiniLM), 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from optkit import classes, features, machine, torchoutputs
from optkit.features import Features
from optkit.fidelity import MASK
from optkit.samples import Drawn

Match = Literal["kl", "mse"]
_KEPT_SHARE = 8
"""A teacher's outputs are kept while they take less than this part of the memory allowed: 8 is an eighth."""


@dataclass(frozen=True)
class Weights:
    """How much each loss counts. ``temperature`` softens both sides' classes."""

    logits: float = 1.0
    hidden: float = 0.0
    attention: float = 0.0
    task: float = 0.0
    temperature: float = 4.0


@dataclass
class Losses:
    """The sum to be minimised, its parts before they are weighed, and the student's outputs by name."""

    total: Any
    parts: dict[str, Any]
    outputs: dict[str, Any]


@dataclass
class Objective:
    """The losses of a student on a batch.

    ``match`` says how ``output``, of which the metric is, is matched: as classes (``kl``) or as values (``mse``); other
    outputs are values. ``layers`` are pairs of names, the student's and the teacher's.
    """

    student: Any
    teacher: Any | None
    inputs: Sequence[str]
    weights: Weights
    match: Match = "mse"
    output: str | None = None
    layers: Sequence[tuple[str, str]] = ()
    _kept: dict[int, dict[str, Any]] = field(default_factory=dict)
    _bytes: int = 0
    _limit: float = field(default_factory=lambda: machine.memory_allowed() / _KEPT_SHARE)

    def __call__(self, drawn: Drawn, *, keep: bool = False) -> Losses:
        """The losses on a batch; ``keep`` the teacher's outputs for another epoch."""
        seen = self._watched(self.student, [own for own, _ in self.layers])
        with seen.watching():
            outputs = torchoutputs.named(self.student(*drawn.inputs))
        taught, shown = self._taught(drawn, keep=keep)
        mask = dict(zip(self.inputs, drawn.inputs, strict=True)).get(MASK)
        parts: dict[str, Any] = {}
        if taught:
            parts["logits"] = sum(self._matched(name, outputs[name], taught[name], mask) for name in taught)
        if shown is not None and self.weights.hidden:
            parts["hidden"] = self._hidden(seen, shown, mask)
        if shown is not None and self.weights.attention:
            parts["attention"] = self._attention(seen, shown, mask)
        if drawn.labels is not None and self.weights.task:
            parts["task"] = task_loss(*self.scores(outputs), drawn.labels)
        total = sum(getattr(self.weights, name) * part for name, part in parts.items())
        return Losses(total, parts, outputs)

    def scores(self, outputs: dict[str, Any]) -> tuple[str, Any]:
        """The output that labels and metric are about."""
        name = self.output or next(iter(outputs))
        return name, outputs[name]

    def reference(self, drawn: Drawn) -> dict[str, Any]:
        """What the teacher gives for a batch."""
        return self._taught(drawn, keep=False)[0]

    def _watched(self, module: Any, layers: Sequence[str]) -> Features:
        wanted = layers if self.weights.hidden or self.weights.attention else ()
        return Features(module, wanted, attention=self.weights.attention > 0)

    def _taught(self, drawn: Drawn, *, keep: bool) -> tuple[dict[str, Any], Features | None]:
        """The teacher's outputs, out of those that were kept if need not be more, and what it showed on its way."""
        import torch

        if self.teacher is None:
            return {}, None
        inner = bool(self.weights.hidden or self.weights.attention)
        if not inner and all(row in self._kept for row in drawn.rows):
            names = self._kept[drawn.rows[0]]
            return {name: torch.cat([self._kept[row][name] for row in drawn.rows]) for name in names}, None
        shown = self._watched(self.teacher, [taught for _, taught in self.layers])
        with torch.no_grad(), shown.watching():
            given = torchoutputs.named(self.teacher(*drawn.inputs))
            outputs = {name: value.detach() for name, value in given.items() if value.is_floating_point()}
        if keep and not inner:
            self._keep(drawn, outputs)
        return outputs, shown

    def _keep(self, drawn: Drawn, outputs: dict[str, Any]) -> None:
        size = sum(value.nbytes for value in outputs.values())
        by_row = all(value.shape[:1] == (len(drawn.rows),) for value in outputs.values())
        if not by_row or self._bytes + size > self._limit:
            return
        self._bytes += size
        for number, row in enumerate(drawn.rows):
            self._kept[row] = {name: value[number : number + 1] for name, value in outputs.items()}

    def _matched(self, name: str, own: Any, taught: Any, mask: Any) -> Any:
        if self.match == "kl" and (self.output is None or name == self.output):
            return soft_targets(own, taught, self.weights.temperature, mask)
        return squared_error(own, taught, mask)

    def _hidden(self, seen: Features, shown: Features, mask: Any) -> Any:
        errors = [squared_error(seen.hidden[own], shown.hidden[taught], mask) for own, taught in self.layers]
        return sum(errors) / len(errors)

    def _attention(self, seen: Features, shown: Features, mask: Any) -> Any:
        own, taught = seen.attention, shown.attention
        matched = features.pairs(range(len(own)), range(len(taught)))  # type: ignore[arg-type]  # numbers for names
        errors = [_divergence(own[i], taught[j], _queries(mask, own[i])) for i, j in matched]  # type: ignore[call-overload]
        return sum(errors) / len(errors)


def soft_targets(own: Any, taught: Any, temperature: float, mask: Any = None) -> Any:
    """The divergence of softened classes, times the temperature's square so that gradients keep their size."""
    log_own, log_taught = (_log_probabilities(each, temperature) for each in (own, taught))
    return temperature**2 * _divergence(log_own, log_taught, _shown(mask, own))


def squared_error(own: Any, taught: Any, mask: Any = None) -> Any:
    """The mean squared error over the variance of what is taught, so that outputs of any size count the same."""
    shown = _shown(mask, own)
    error = ((own.float() - taught.float()) ** 2).flatten(1 if shown is None else 2).mean(-1)
    scale = taught.float().var().clamp(min=1e-12)
    return _mean(error, shown) / scale


def task_loss(name: str, scores: Any, labels: Any) -> Any:
    """Cross-entropy for classes (also of one score), the squared error for real values; labels of -100 do not count."""
    import torch
    from torch.nn import functional

    if labels.is_floating_point():
        return functional.mse_loss(scores.float().reshape(labels.shape), labels.float())
    if scores.ndim == labels.ndim or scores.shape[-1] == 1:
        kept = labels != classes.IGNORED
        single = scores.float().reshape(labels.shape)[kept]
        target = labels[kept].float()
        if classes.threshold(name):
            return functional.binary_cross_entropy(single.clamp(0, 1), target)
        return functional.binary_cross_entropy_with_logits(single, target)
    logs = _log_probabilities(scores, 1.0)
    at_end = scores.shape[:-1] == labels.shape
    logs = logs if at_end else torch.movedim(logs, 1, -1)
    return functional.nll_loss(logs.flatten(0, -2), labels.flatten().long(), ignore_index=classes.IGNORED)


def _log_probabilities(scores: Any, temperature: float) -> Any:
    """Of logits, or of what are probabilities already."""
    scores = scores.float()
    total = scores.detach().sum(-1)
    if scores.detach().min() >= 0 and (total - 1).abs().max() < 1e-3:
        scores = scores.clamp(min=1e-12).log()
    return (scores / temperature).log_softmax(-1)


def _divergence(own: Any, taught: Any, shown: Any) -> Any:
    """Kullback-Leibler, of log-probabilities along the last axis."""
    each = (taught.exp() * (taught - own)).sum(-1)
    if shown is None:
        return each.mean()
    return _mean(each, shown.expand(each.shape))


def _mean(values: Any, shown: Any) -> Any:
    if shown is None:
        return values.mean()
    weights = shown.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def _shown(mask: Any, values: Any) -> Any:
    """The attention mask, where the values are of its positions."""
    return mask if mask is not None and values.ndim > 2 and values.shape[:2] == mask.shape else None


def _queries(mask: Any, attention: Any) -> Any:
    """Which queries are no padding: ``[batch, 1, queries]``."""
    return mask[:, None, :] if mask is not None and mask.shape[-1] == attention.shape[-2] else None
