"""From a classifier's scores to decisions, beside class labels: per sample, per token or per pixel."""

from __future__ import annotations

import numpy as np

from optkit.errors import DataError, MetricError
from optkit.formats.tensors import Array

IGNORED = -100
"""A label that is not counted: padding, parts of words."""
UNDECIDED = -1
"""The decision of scores with NaN: it is nobody's label."""


def decisions(name: str, output: Array, labels: Array) -> tuple[Array, Array]:
    """The decided class and the label, in arrays of one shape. Raises DataError or MetricError where they do not fit.

    Scores may lie along the last axis or, as for pixels, the second. One score per label decides between classes 0
    and 1, see ``threshold``; whole numbers are decisions already.
    """
    scores, labels = _fitted(name, output, class_labels(labels))
    if scores.ndim > labels.ndim:
        _check_range(name, labels, scores.shape[-1])
        return decided(scores), labels
    if scores.dtype.kind in "iu":
        return scores.astype(np.int64), labels
    _check_range(name, labels, 2)
    return decided_by_one(name, scores), labels


def among_best(name: str, output: Array, labels: Array, best: int) -> tuple[Array, Array]:
    """Where the label is among the ``best`` scores, and where it counts at all."""
    scores, labels = _fitted(name, output, class_labels(labels))
    if scores.ndim == labels.ndim or scores.shape[-1] <= best:
        found = 1 if scores.ndim == labels.ndim else scores.shape[-1]
        raise MetricError(f"top{best} needs more than {best} classes: output {name!r} has {found}", hint="use accuracy")
    _check_range(name, labels, scores.shape[-1])
    ranked = np.argsort(-scores, axis=-1, kind="stable")[..., :best]
    hits = (ranked == labels[..., None]).any(axis=-1) & ~np.isnan(scores).any(axis=-1)
    return hits, labels != IGNORED


def decided(scores: Array) -> Array:
    """The class that scores highest along the last axis; ``UNDECIDED`` where a score is NaN."""
    best: Array = scores.argmax(axis=-1)
    return np.where(np.isnan(scores).any(axis=-1), UNDECIDED, best) if scores.dtype.kind == "f" else best


def decided_by_one(name: str, scores: Array) -> Array:
    """Class 1 above the threshold, else 0; ``UNDECIDED`` for NaN."""
    return np.where(np.isnan(scores), UNDECIDED, scores > threshold(name))


def threshold(name: str) -> float:
    """What a single score must exceed for class 1: 0 for a logit; 0.5 when the output's name says probability."""
    return 0.5 if any(word in name.lower() for word in ("prob", "sigmoid")) else 0.0


def class_labels(labels: Array) -> Array:
    """Labels as whole numbers. Raises DataError."""
    if labels.dtype.kind not in "iub":
        raise DataError(
            f"labels have dtype {labels.dtype}: classes are numbered 0, 1, 2 and so on",
            hint="labels.astype('int64') where they are whole numbers; real ones are for mae, rmse, pearson, spearman",
        )
    return labels.astype(np.int64)


def macro_f1(pairs: Array) -> float:
    """Macro F1 of rows (decision, label), over the classes that occur as either."""
    decided, labels = pairs[pairs[:, 1] != IGNORED].T.astype(np.int64)
    if not len(labels):
        raise DataError("f1: every label is ignored (-100), so that nothing is left to compare")
    size = int(max(decided.max(), labels.max())) + 1
    hits = np.bincount(labels[decided == labels], minlength=size)
    # For each class: how often it was decided and how often it was so. NaN decided nothing.
    either = np.bincount(decided[decided >= 0], minlength=size) + np.bincount(labels, minlength=size)
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def _fitted(name: str, output: Array, labels: Array) -> tuple[Array, Array]:
    """Scores with the class axis last (or none) and labels, without axes of size one that say nothing."""
    scores = output[..., 0] if output.ndim > 1 and output.shape[-1] == 1 else output
    if labels.ndim > 1 and labels.shape[-1] == 1 and labels.shape != scores.shape:
        labels = labels[..., 0]
    if labels.shape in (scores.shape, scores.shape[:-1]):
        return scores, labels
    if scores.ndim > 2 and labels.shape == scores.shape[:1] + scores.shape[2:]:
        return np.moveaxis(scores, 1, -1), labels
    raise MetricError(
        f"labels of shape {list(labels.shape)} do not fit output {name!r} of shape {list(output.shape)}",
        hint="name the output that holds the classes: METRIC:OUTPUT",
    )


def _check_range(name: str, labels: Array, count: int) -> None:
    wrong = labels[((labels < 0) | (labels >= count)) & (labels != IGNORED)]
    if wrong.size:
        raise DataError(
            f"label {wrong[0]} is out of range: output {name!r} has {count} classes, 0 to {count - 1}",
            hint="classes are numbered from 0; -100 marks what is not to be counted",
        )
