"""Training objectives of a student: match its teacher's outputs, hidden states and attention, and predict the labels.

Soft targets with a temperature: Hinton et al., 2015. Squared error on outputs: Ba and Caruana, 2014. Hidden states and
attention of matched layers: Jiao et al. (TinyBERT), 2020; Wang et al. (MiniLM), 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from optkit.errors import StageError
from optkit.formats.torch.outputs import named_outputs
from optkit.metrics import classification
from optkit.metrics.fidelity import MASK
from optkit.options.verbs.distill import Match
from optkit.system import fingerprint
from optkit.training import features
from optkit.training.features import Features
from optkit.training.samples import Drawn

_FLOOR = 1e-3
"""Least variance, as a share of the mean square."""
_CACHE_SHARE = 8
"""Divisor of the allowed memory that cached outputs of the teacher may take: 8 is an eighth."""


@dataclass(frozen=True)
class Weights:
    """The weights of the losses; 0 leaves a loss out."""

    logits: float = 1.0
    """Loss on the teacher's outputs."""
    hidden: float = 0.0
    """Loss on hidden states of matched layers."""
    attention: float = 0.0
    """Loss on attention probabilities of matched layers."""
    task: float = 0.0
    """Loss on the labels."""
    temperature: float = 2.0
    """Temperature that softens the class probabilities of both student and teacher."""


@dataclass
class Losses:
    """The losses of a batch."""

    total: Any
    """The weighted sum, to be minimised."""
    parts: dict[str, Any]
    """Each loss by name, unweighted."""
    outputs: dict[str, Any]
    """The student's outputs by name."""


@dataclass
class OutputCache:
    """A cache of a teacher's outputs by sample, in main memory, up to a share of it."""

    _rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    _bytes: int = 0
    _limit: float = field(default_factory=lambda: fingerprint.memory_allowed() / _CACHE_SHARE)

    def get(self, drawn: Drawn) -> dict[str, Any] | None:
        """Return the outputs for a batch, on its device; ``None`` if a sample is not cached."""
        import torch

        if not all(row in self._rows for row in drawn.rows):
            return None
        place = drawn.inputs[0].device
        names = self._rows[drawn.rows[0]]
        return {name: torch.cat([self._rows[row][name] for row in drawn.rows]).to(place) for name in names}

    def put(self, drawn: Drawn, outputs: dict[str, Any]) -> None:
        """Cache the outputs for a batch by sample, unless they have no sample axis or the limit is reached."""
        size = sum(value.nbytes for value in outputs.values())
        by_row = all(value.shape[:1] == (len(drawn.rows),) for value in outputs.values())
        if not by_row or self._bytes + size > self._limit:
            return
        self._bytes += size
        for number, row in enumerate(drawn.rows):
            self._rows[row] = {name: value[number : number + 1].cpu() for name, value in outputs.items()}


@dataclass
class Objective:
    """The losses of a student on a batch."""

    student: Any
    teacher: Any
    inputs: Sequence[str]
    """Names of the model's inputs, in order."""
    weights: Weights
    output: str
    """The output that metric and labels refer to."""
    match: Match = "mse"
    """Loss on ``output``: ``kl`` for logits, ``mse`` for values. All other outputs use ``mse``."""
    values: bool = False
    """True if labels are real values, even where they are whole numbers."""
    layers: Sequence[tuple[str, str]] = ()
    """Names of matched layers, the student's and the teacher's."""
    cache: OutputCache = field(default_factory=OutputCache)

    def __call__(self, drawn: Drawn) -> Losses:
        """Compute the losses on a batch."""
        seen = self._watched(self.student, [own for own, _ in self.layers])
        with seen.watching():
            outputs = named_outputs(self.student(*drawn.inputs))
        taught, shown = self._taught(drawn) if self._learns_from_teacher else ({}, None)
        mask = dict(zip(self.inputs, drawn.inputs, strict=True)).get(MASK)
        parts: dict[str, Any] = {}
        if self.weights.logits:
            parts["logits"] = sum(self._matched(name, outputs[name], taught[name], drawn, mask) for name in taught)
        if shown is not None and self.weights.hidden:
            parts["hidden"] = self._hidden(seen, shown, mask)
        if shown is not None and self.weights.attention:
            parts["attention"] = self._attention(seen, shown, mask)
        if drawn.labels is not None and self.weights.task:
            parts["task"] = task_loss(self.output, outputs[self.output], drawn.labels, values=self.values)
        total = sum(getattr(self.weights, name) * part for name, part in parts.items())
        return Losses(total, parts, outputs)

    def reference(self, drawn: Drawn) -> dict[str, Any]:
        """Return the teacher's outputs for a batch."""
        return self._taught(drawn)[0]

    def remember(self, batches: Iterable[Drawn]) -> None:
        """Cache the teacher's outputs for the batches, if only outputs are learnt from it.

        Done before training and in one order, because the last digits of an output may depend on the rest of its batch.
        """
        if self.weights.logits and not self._looks_inside:
            for drawn in batches:
                if self.cache.get(drawn) is None:
                    self.cache.put(drawn, self.reference(drawn))

    def _watched(self, module: Any, layers: Sequence[str]) -> Features:
        wanted = layers if self.weights.hidden or self.weights.attention else ()
        return Features(module, wanted, attention=self.weights.attention > 0)

    def _taught(self, drawn: Drawn) -> tuple[dict[str, Any], Features | None]:
        """Return the teacher's outputs, from the cache if outputs are enough, and its hidden states and attention."""
        import torch

        known = None if self._looks_inside else self.cache.get(drawn)
        if known is not None:
            return known, None
        shown = self._watched(self.teacher, [taught for _, taught in self.layers])
        with torch.no_grad(), shown.watching():
            given = named_outputs(self.teacher(*drawn.inputs))
            outputs = {name: value.detach() for name, value in given.items() if value.is_floating_point()}
        return outputs, shown

    @property
    def _learns_from_teacher(self) -> bool:
        return bool(self.weights.logits) or self._looks_inside

    @property
    def _looks_inside(self) -> bool:
        return bool(self.weights.hidden or self.weights.attention)

    def _matched(self, name: str, own: Any, taught: Any, drawn: Drawn, mask: Any) -> Any:
        if self.match == "mse" or name != self.output:
            return squared_error(own, taught, mask)
        if own.ndim == 1 or own.shape[-1] == 1:
            own, taught = (_two_classes(name, each) for each in (own, taught))
        elif drawn.labels is not None and _classes_second(own, drawn.labels):
            own, taught = (each.movedim(1, -1) for each in (own, taught))
        return soft_targets(own, taught, self.weights.temperature, mask)

    def _hidden(self, seen: Features, shown: Features, mask: Any) -> Any:
        errors = [squared_error(seen.hidden[own], shown.hidden[taught], mask) for own, taught in self.layers]
        return sum(errors) / len(errors)

    def _attention(self, seen: Features, shown: Features, mask: Any) -> Any:
        """Compute the attention loss of layers at the same share of the depth; heads are averaged if their numbers
        differ. Raises StageError if no scaled dot-product attention is seen.
        """
        own, taught = seen.attention, shown.attention
        if not own or not taught:
            raise StageError(
                "--attention needs scaled dot-product attention, and the models have none", hint="leave --attention out"
            )
        matched = features.pairs(range(len(own)), range(len(taught)))
        errors = [_attention_divergence(own[first], taught[second], mask) for first, second in matched]
        return sum(errors) / len(errors)


def soft_targets(own: Any, taught: Any, temperature: float, mask: Any = None) -> Any:
    """Compute the KL divergence of softened class probabilities, times the temperature's square so that gradients keep
    their size.
    """
    log_own, log_taught = (_log_probabilities(each, temperature) for each in (own, taught))
    return temperature**2 * _divergence(log_own, log_taught, _fitting_mask(mask, own))


def squared_error(own: Any, taught: Any, mask: Any = None) -> Any:
    """Compute the mean squared error over the teacher's variance, so that outputs of any scale count the same."""
    shown = _fitting_mask(mask, own)
    wanted = taught.float()
    error = (own.float() - wanted) ** 2
    error = error.reshape(*error.shape[: min(error.ndim, 1 if shown is None else 2)], -1).mean(-1)
    # A single value has no variance, and equal values have zero, which cannot be divided by.
    scale = wanted.var(correction=0) + _FLOOR * wanted.square().mean()
    return _mean(error, shown) / scale.clamp(min=1e-12)


def task_loss(name: str, scores: Any, labels: Any, *, values: bool = False) -> Any:
    """Compute the labels' loss: cross-entropy for classes (also of one score), the mean squared error for real
    ``values``; labels of -100 do not count.
    """
    from torch.nn import functional

    if labels.ndim > 1 and labels.shape[-1] == 1 and labels.shape != scores.shape:
        labels = labels[..., 0]
    if values or labels.is_floating_point():
        return functional.mse_loss(scores.float().reshape(labels.shape), labels.float())
    kept = labels != classification.IGNORED
    if not kept.any():
        return scores.float().sum() * 0.0
    if scores.ndim == labels.ndim or scores.shape[-1] == 1:
        scores = _two_classes(name, scores.reshape(labels.shape))
    elif _classes_second(scores, labels):
        scores = scores.movedim(1, -1)
    logs = _log_probabilities(scores, 1.0)
    return functional.nll_loss(logs.flatten(0, -2), labels.flatten().long(), ignore_index=classification.IGNORED)


def _two_classes(name: str, scores: Any) -> Any:
    """Turn one score, a logit or by its name a probability, into logits of the classes 0 and 1."""
    import torch

    score = scores.float()
    score = score[..., 0] if score.ndim > 1 and score.shape[-1] == 1 else score
    if classification.threshold(name):
        score = torch.logit(score.clamp(1e-6, 1 - 1e-6))
    return torch.stack([torch.zeros_like(score), score], -1)


def _classes_second(scores: Any, labels: Any) -> bool:
    """Return True if the class axis is the second, as for pixels, and not the last."""
    spread = bool(scores.shape[:-1] != labels.shape)
    return spread and bool(scores.shape[:1] + scores.shape[2:] == labels.shape)


def _log_probabilities(scores: Any, temperature: float) -> Any:
    """Compute softened log-probabilities of logits, or of scores that are probabilities already."""
    scores = scores.float()
    total = scores.detach().sum(-1)
    if scores.detach().min() >= 0 and (total - 1).abs().max() < 1e-3:
        scores = scores.clamp(min=1e-12).log()
    return (scores / temperature).log_softmax(-1)


def _attention_divergence(own: Any, taught: Any, mask: Any) -> Any:
    """Compute the divergence of two attentions, given as log-probabilities ``[batch, heads, queries, keys]``."""
    if own.shape[1] != taught.shape[1]:
        own, taught = (each.exp().mean(1, keepdim=True).clamp(min=1e-12).log() for each in (own, taught))
    return _divergence(own, taught, _query_mask(mask, own))


def _divergence(own: Any, taught: Any, shown: Any) -> Any:
    """Compute the Kullback-Leibler divergence of log-probabilities along the last axis, averaged over the rest."""
    each = (taught.exp() * (taught - own)).sum(-1)
    if shown is None:
        return each.mean()
    return _mean(each, shown.expand(each.shape))


def _mean(values: Any, shown: Any) -> Any:
    if shown is None:
        return values.mean()
    weights = shown.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def _fitting_mask(mask: Any, values: Any) -> Any:
    """Return the attention mask if the values have its positions, else ``None``."""
    return mask if mask is not None and values.ndim > 2 and values.shape[:2] == mask.shape else None


def _query_mask(mask: Any, attention: Any) -> Any:
    """Return the mask of queries that are no padding, ``[batch, 1, queries]``, or ``None``."""
    return mask[:, None, :] if mask is not None and mask.shape[-1] == attention.shape[-2] else None
