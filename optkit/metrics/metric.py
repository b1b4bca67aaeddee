"""Metrics of quality: by labels, or by the outputs of a reference model (fidelity).

A metric turns each batch into *observations*, an array with a row per sample, and aggregates the rows of all batches
into one value; so the samples can be resampled for an interval, and paired with another model's. Labels of -100 are
ignored. An output with NaN gets the worst value if the metric has one, and is an error if it is unbounded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from optkit.data.dataset import Dataset
from optkit.errors import DataError, MetricError, TargetError
from optkit.formats.tensors import Array, Arrays, Signature
from optkit.lazy import did_you_mean
from optkit.metrics import classification, fidelity, significance
from optkit.records.record import Interval

Needs = Literal["labels", "reference"]
Test = Literal["mcnemar", "bootstrap", "wilson"]


@dataclass(frozen=True)
class Metric(ABC):
    """A measure of outputs, by labels or by a reference's outputs. ``output`` is compared, by default the first."""

    name: ClassVar[str]
    takes: ClassVar[tuple[Needs, ...]] = ("labels",)
    """The kinds of truth that it can be computed from, the preferred one first."""
    higher_is_better: ClassVar[bool] = True
    counts: ClassVar[bool] = False
    """True if a sample is either right or wrong, so that the value is a proportion."""

    output: str | None = None
    needs: Needs = "labels"

    def __str__(self) -> str:
        return self.name if self.output is None else f"{self.name}:{self.output}"

    @property
    def perfect(self) -> float:
        """The best possible value."""
        return 1.0 if self.higher_is_better else 0.0

    @abstractmethod
    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        """Return a row per sample. ``truth`` is the labels, or the reference's outputs if the metric ``needs`` these.
        Raises DataError or MetricError for outputs and truth that do not fit.
        """

    def aggregate(self, observations: Array) -> float:
        """Aggregate all rows into one value; the default takes rows (sum, weight) and returns the weighted mean."""
        total, weight = observations.sum(axis=0)
        if not weight:
            raise DataError(f"{self}: every label is ignored (-100), so that nothing is left to compare")
        return float(total / weight)

    def chosen(self, outputs: Arrays) -> tuple[str, Array]:
        """Return the compared output with its name. Raises MetricError if the model has no such output."""
        name = self.output or next(iter(outputs))
        if name not in outputs:
            raise MetricError(
                f"metric {str(self)!r}: the model has no output {name!r}", hint=did_you_mean(name, list(outputs))
            )
        return name, outputs[name]


class Accuracy(Metric):
    """The share of decisions that equal the label."""

    name = "accuracy"
    counts = True

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        predicted, labels = classification.decisions(*self.chosen(outputs), _labels(truth))
        counted = labels != classification.IGNORED
        return _share((predicted == labels) & counted, counted)


class Top5(Metric):
    """The share of samples whose label is among the five highest scores."""

    name = "top5"
    counts = True

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        hits, counted = classification.top_k_hits(*self.chosen(outputs), _labels(truth), 5)
        return _share(hits, counted)


class F1(Metric):
    """The unweighted mean over classes of the harmonic mean of precision and recall."""

    name = "f1"

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        predicted, labels = classification.decisions(*self.chosen(outputs), _labels(truth))
        return np.stack([predicted, labels], axis=-1).reshape(len(labels), -1, 2)

    def aggregate(self, observations: Array) -> float:
        return classification.macro_f1(observations.reshape(-1, 2))


class MeanAbsoluteError(Metric):
    """The mean absolute difference from the labels, or from the reference's output."""

    name = "mae"
    takes = ("labels", "reference")
    higher_is_better = False

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        name, output = self.chosen(outputs)
        expected = self.chosen(truth)[1] if isinstance(truth, dict) else truth
        values, wanted, keep = fidelity.align(name, output, expected, feed)
        _require_finite(self, name, values, wanted, keep)
        difference = np.where(keep, values, 0.0) - np.where(keep, wanted, 0.0)
        return np.stack([self.size(difference).sum(axis=1), keep.sum(axis=1)], axis=1)

    def size(self, difference: Array) -> Array:
        """Return the error of each difference: its absolute value."""
        distance: Array = np.abs(difference)
        return distance


class RootMeanSquareError(MeanAbsoluteError):
    """The root of the mean squared difference."""

    name = "rmse"

    def size(self, difference: Array) -> Array:
        square: Array = np.square(difference)
        return square

    def aggregate(self, observations: Array) -> float:
        return float(np.sqrt(super().aggregate(observations)))


class Pearson(Metric):
    """The linear correlation of one output value per sample with the labels; 0 if either is constant."""

    name = "pearson"

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        name, output = self.chosen(outputs)
        values, wanted, keep = fidelity.align(name, output, _labels(truth), {})
        if values.shape[1] != 1:
            raise MetricError(f"{self}: output {name!r} has {values.shape[1]} values per sample, not one")
        _require_finite(self, name, values, wanted, keep)
        return np.concatenate([values, wanted], axis=1)

    def aggregate(self, observations: Array) -> float:
        return fidelity.correlation(*observations.T)


class Spearman(Pearson):
    """The rank correlation of one output value per sample with the labels."""

    name = "spearman"

    def aggregate(self, observations: Array) -> float:
        return fidelity.correlation(*(fidelity.ranks(column) for column in observations.T))


class Cosine(Metric):
    """The mean cosine similarity of a sample's output and the reference's; of several outputs the worst counts.

    An output whose sample axis is not the first, such as a recurrent state, counts as a whole for each sample of its
    batch.
    """

    name = "cosine"
    takes = ("reference",)

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        reference = _reference(truth)
        names = [self.output] if self.output else [name for name in reference if reference[name].dtype.kind in "fiub"]
        chosen = [replace(self, output=name) for name in names]
        each = [fidelity.cosines(*one.chosen(outputs), one.chosen(reference)[1], feed) for one in chosen]
        worst = np.min(fidelity.per_sample(each, feed), axis=0)
        return np.stack([worst, np.ones_like(worst)], axis=1)


class Agreement(Metric):
    """The share of decisions (the class with the highest score) that equal the reference's."""

    name = "agreement"
    takes = ("reference",)
    counts = True

    def observations(self, outputs: Arrays, truth: Array | Arrays, feed: Arrays) -> Array:
        name, output = self.chosen(outputs)
        same, counted = fidelity.agreements(name, output, self.chosen(_reference(truth))[1], feed)
        return _share(same, counted)


METRICS: dict[str, type[Metric]] = {
    metric.name: metric
    for metric in (
        Accuracy, Top5, F1, MeanAbsoluteError, RootMeanSquareError, Pearson, Spearman, Cosine, Agreement,
    )
}  # fmt: skip
FIDELITY = tuple(name for name, metric in METRICS.items() if "reference" in metric.takes)


def parse_metric(text: str, *, labelled: bool = True) -> Metric:
    """Parse ``METRIC[:OUTPUT]`` for data with or without labels. Raises MetricError."""
    name, colon, output = text.partition(":")
    if name not in METRICS:
        raise MetricError(f"unknown metric {name!r}", hint=did_you_mean(name, METRICS))
    if colon and not output:
        raise MetricError(f"metric {text!r} names no output after the colon", hint=f"for example {name}:logits")
    kind = METRICS[name]
    if not labelled and "reference" not in kind.takes:
        raise MetricError(
            f"metric {name!r} needs labels, and the data has none",
            hint=f"add an array 'labels', or measure fidelity to the baseline: {', '.join(FIDELITY)}",
        )
    return kind(output or None, "labels" if labelled and "labels" in kind.takes else "reference")


def choose_metric(text: str | None, dataset: Dataset, signature: Signature) -> Metric:
    """Parse ``text``, or take the default, and check the metric against data and model. Raises MetricError."""
    metric = parse_metric(text or default(dataset, signature), labelled=dataset.labelled)
    known = [output.name for output in signature.outputs]
    if metric.output is not None and known and metric.output not in known:
        raise MetricError(
            f"metric {text!r}: the model has no output {metric.output!r}", hint=did_you_mean(metric.output, known)
        )
    return metric


def default(dataset: Dataset, signature: Signature) -> str:
    """Return the default metric: ``accuracy`` for class labels, ``mae`` for real ones, ``cosine`` without labels."""
    if not dataset.labelled or not len(dataset):
        return Cosine.name
    labels = dataset.source.label(dataset.indices[0])
    if labels is None or labels.dtype.kind not in "iubf":
        return Cosine.name
    if labels.dtype.kind == "f":
        return MeanAbsoluteError.name
    shape = signature.outputs[0].shape if signature.outputs else None
    single = shape is not None and (len(shape) == 1 or shape[-1] == 1)
    # Whole numbers beside a single output are classes only as long as there are two of them.
    return MeanAbsoluteError.name if single and _exceeds_one(dataset) else Accuracy.name


def join_outputs(parts: Sequence[Array]) -> Array:
    """Join the observations of several batches; f1's rows differ in width for texts of different lengths."""
    width = max(part.shape[1] for part in parts)
    blank = [[(0, 0), (0, width - part.shape[1])] + [(0, 0)] * (part.ndim - 2) for part in parts]
    padded = [np.pad(part, pad, constant_values=classification.IGNORED) for part, pad in zip(parts, blank, strict=True)]
    return np.concatenate(padded)


def metric_interval(observations: Array, metric: Metric, *, seed: int = 0) -> Interval:
    """Compute the metric's value with its 95 % interval over the samples. Raises DataError for a single sample."""
    if metric.counts and _is_plain(observations):
        return significance.proportion(float(observations[:, 0].sum()), len(observations))
    _require_two(observations, metric)
    return significance.bootstrap(lambda rows: metric.aggregate(observations[rows]), len(observations), seed=seed)


def loss_interval(candidate: Array, baseline: Array | None, metric: Metric, *, seed: int = 0) -> Interval:
    """Compute the loss of the candidate against the baseline on the same samples, in the metric's units; positive is
    worse. ``baseline`` is ``None`` for fidelity, where it is perfect by definition.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    if baseline is None:
        own = metric_interval(candidate, metric, seed=seed)
        ends = sorted(sign * (metric.perfect - end) + 0.0 for end in (own.low, own.high))
        return Interval(value=sign * (metric.perfect - own.value) + 0.0, low=ends[0], high=ends[1])
    if metric.counts and _is_plain(candidate) and _is_plain(baseline):
        return significance.paired_proportions(*_right_alone(baseline, candidate), len(candidate))
    _require_two(candidate, metric)

    def lost(rows: Array) -> float:
        return sign * (metric.aggregate(baseline[rows]) - metric.aggregate(candidate[rows])) + 0.0

    return significance.bootstrap(lost, len(candidate), seed=seed)


@dataclass(frozen=True)
class Evidence:
    """Evidence for a loss: the test, its p-value, and the smallest loss that these samples could have detected."""

    test: Test
    p_value: float | None
    detectable: float | None


def weigh_evidence(candidate: Array, baseline: Array | None, metric: Metric, lost: Interval) -> Evidence:
    """Return the evidence for ``lost``, the loss on the same samples."""
    plain = metric.counts and _is_plain(candidate)
    if plain and baseline is not None and _is_plain(baseline):
        only_baseline, only_candidate = _right_alone(baseline, candidate)
        p_value = significance.p_value(only_baseline, only_candidate)
        return Evidence("mcnemar", p_value, significance.detectable(only_candidate, len(candidate)))
    return Evidence("wilson" if plain and baseline is None else "bootstrap", None, (lost.high - lost.value) or None)


def _right_alone(first: Array, second: Array) -> tuple[int, int]:
    """Count the samples on which only the first is right, and those on which only the second is."""
    difference = first[:, 0] - second[:, 0]
    return int((difference > 0).sum()), int((difference < 0).sum())


def _exceeds_one(dataset: Dataset) -> bool:
    labels = (dataset.source.label(index) for index in dataset.indices[:1000])
    return any(label is not None and label.size > 0 and label.max() > 1 for label in labels)


def _is_plain(observations: Array) -> bool:
    """Return True if each sample is one decision, right or wrong."""
    return bool((observations[:, 1] == 1).all() and np.isin(observations[:, 0], (0, 1)).all())


def _require_two(observations: Array, metric: Metric) -> None:
    if len(observations) < 2:
        raise DataError(f"{metric}: an interval takes two samples", hint="evaluate on two samples or more, better 200")


def _require_finite(metric: Metric, name: str, values: Array, wanted: Array, keep: Array) -> None:
    broken = (keep & ~(np.isfinite(values) & np.isfinite(wanted))).any(axis=1)
    if broken.any():
        raise TargetError(
            f"output {name!r} holds NaN or infinity in {broken.sum()} of {len(broken)} samples: {metric} has no value"
        )


def _share(hits: Array, counted: Array) -> Array:
    rows = len(hits)
    return np.stack([hits.reshape(rows, -1).sum(axis=1), counted.reshape(rows, -1).sum(axis=1)], axis=1).astype(float)


def _labels(truth: Array | Arrays) -> Array:
    if isinstance(truth, dict):
        raise TypeError("this metric takes labels")
    return truth


def _reference(truth: Array | Arrays) -> Arrays:
    if not isinstance(truth, dict):
        raise TypeError("this metric takes a reference's outputs")
    return truth
