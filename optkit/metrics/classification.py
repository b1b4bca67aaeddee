"""Decisions of a classifier, from its scores, beside class labels: per sample, per token or per pixel."""

from __future__ import annotations

import numpy as np

from optkit.errors import DataError, MetricError
from optkit.formats.tensors import Array

IGNORED = -100
"""The label that is not counted: padding, parts of words."""
UNDECIDED = -1
"""The decision for scores with NaN; it equals no label."""


def decisions(name: str, output: Array, labels: Array) -> tuple[Array, Array]:
    """Return the predicted classes and the labels, two int64 arrays of the same shape.

    The class axis is the last or, as for pixels, the second. One score per label decides between classes 0 and 1, see
    ``threshold``; integer outputs are decisions already. Raises DataError or MetricError for labels that do not fit.
    """
    scores, labels = _fitted(name, output, class_labels(labels))
    if scores.ndim > labels.ndim:
        _check_range(name, labels, scores.shape[-1])
        return classes_by_argmax(scores), labels
    if scores.dtype.kind in "iu":
        return scores.astype(np.int64), labels
    _check_range(name, labels, 2)
    return classes_by_threshold(name, scores), labels


def top_k_hits(name: str, output: Array, labels: Array, best: int) -> tuple[Array, Array]:
    """Return two masks of the labels' shape: the label is among the ``best`` scores, and the label is counted.

    Raises DataError or MetricError for labels that do not fit, or too few classes.
    """
    scores, labels = _fitted(name, output, class_labels(labels))
    if scores.ndim == labels.ndim or scores.shape[-1] <= best:
        found = 1 if scores.ndim == labels.ndim else scores.shape[-1]
        raise MetricError(f"top{best} needs more than {best} classes: output {name!r} has {found}", hint="use accuracy")
    _check_range(name, labels, scores.shape[-1])
    ranked = np.argsort(-scores, axis=-1, kind="stable")[..., :best]
    hits = (ranked == labels[..., None]).any(axis=-1) & ~np.isnan(scores).any(axis=-1)
    return hits, labels != IGNORED


def classes_by_argmax(scores: Array) -> Array:
    """Return the class with the highest score along the last axis; ``UNDECIDED`` where a score is NaN."""
    best: Array = scores.argmax(axis=-1)
    return np.where(np.isnan(scores).any(axis=-1), UNDECIDED, best) if scores.dtype.kind == "f" else best


def classes_by_threshold(name: str, scores: Array) -> Array:
    """Return class 1 for scores above the threshold, else 0; ``UNDECIDED`` for NaN."""
    return np.where(np.isnan(scores), UNDECIDED, scores > threshold(name))


def threshold(name: str) -> float:
    """Return the decision threshold of a single score: 0 for a logit, 0.5 if the output's name says probability."""
    return 0.5 if any(word in name.lower() for word in ("prob", "sigmoid")) else 0.0


def class_labels(labels: Array) -> Array:
    """Convert labels to int64. Raises DataError for labels that are no integers."""
    if labels.dtype.kind not in "iub":
        raise DataError(
            f"labels have dtype {labels.dtype}: classes are numbered 0, 1, 2 and so on",
            hint="labels.astype('int64') where they are whole numbers; real ones are for mae, rmse, pearson, spearman",
        )
    return labels.astype(np.int64)


def macro_f1(pairs: Array) -> float:
    """Compute macro F1 of rows (decision, label) over the classes that occur as either. Raises DataError if all labels
    are ignored.
    """
    decided, labels = pairs[pairs[:, 1] != IGNORED].T.astype(np.int64)
    if not len(labels):
        raise DataError("f1: every label is ignored (-100), so that nothing is left to compare")
    size = int(max(decided.max(), labels.max())) + 1
    hits = np.bincount(labels[decided == labels], minlength=size)
    # For each class, predictions plus labels; an undecided sample (NaN) predicts no class.
    either = np.bincount(decided[decided >= 0], minlength=size) + np.bincount(labels, minlength=size)
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def _fitted(name: str, output: Array, labels: Array) -> tuple[Array, Array]:
    """Move the class axis of the scores, if there is one, to the end, and drop last axes of size one."""
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
