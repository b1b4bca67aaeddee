"""Splits of data into training, calibration and evaluation parts that share no sample, chosen by content and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optkit.data.dataset import Dataset, open_dataset
from optkit.data.description import DataSpec
from optkit.errors import DataError
from optkit.formats.tensors import TensorSpec
from optkit.options.data import CalibrationSize

CALIBRATION_SAMPLES = CalibrationSize().calibration_samples
"""Calibration samples by default, at most."""
_TRAINING_SHARE = 0.8
"""Share of the data that trains if no training data is given apart."""
_HELD_OUT_SHARE = 0.1
_MOST_HELD_OUT = 2000
"""Training is validated on a tenth of its data, but on no more samples than it takes to tell losses apart."""


@dataclass(frozen=True)
class Parts:
    """Datasets by their use; ``None`` for a part that was neither given nor needed."""

    training: Dataset | None = None
    calibration: Dataset | None = None
    evaluation: Dataset | None = None


def parts(
    data: str | Path | DataSpec | None,
    calibration: str | Path | DataSpec | None,
    inputs: Sequence[TensorSpec] | None,
    *,
    training: str | Path | DataSpec | None = None,
    calibration_samples: int = CALIBRATION_SAMPLES,
    seed: int = 0,
    calibrates: bool = True,
    trains: bool = False,
) -> Parts:
    """Divide data into parts of which evaluation shares no sample with the others.

    ``training`` (if ``trains``) and ``calibration`` are used if given. Otherwise training samples are split off
    ``data``, and calibration samples (if ``calibrates``) are taken from the training part or, without one, split off
    ``data``. The rest of ``data`` is for evaluation. Raises DataError, also for given parts that share samples.
    """
    given = None if data is None else open_dataset(data, inputs)
    learnt, given = _training(given, training, inputs, seed) if trains else (None, given)
    calibrating: Dataset | None = None
    if calibration is not None:
        calibrating = open_dataset(calibration, inputs).take(calibration_samples)
        if given is not None:
            check_disjoint(calibrating, given)
    elif calibrates:
        calibrating, given = _calibration(learnt, given, calibration_samples, seed)
    return Parts(
        learnt,
        calibrating and replace(calibrating, part="calibration"),
        given and replace(given, part="evaluation"),
    )


def _training(
    data: Dataset | None, training: str | Path | DataSpec | None, inputs: Sequence[TensorSpec] | None, seed: int
) -> tuple[Dataset | None, Dataset | None]:
    """Return the training part and the rest of ``data``: open ``training`` if it is given, else split ``data``."""
    if training is not None:
        opened = replace(open_dataset(training, inputs), part="training")
        if data is not None:
            check_disjoint(opened, data)
        return opened, data
    if data is None:
        return None, None
    count = int(_TRAINING_SHARE * len(data))
    chosen, rest = split(data, calibration_samples=count, at_most=_TRAINING_SHARE, seed=seed)
    return replace(chosen, part="training"), rest


def _calibration(
    training: Dataset | None, data: Dataset | None, count: int, seed: int
) -> tuple[Dataset | None, Dataset | None]:
    """Return calibration samples and the rest of ``data``: taken from ``training`` if there is one, else split off."""
    if training is not None:
        return training.take(count), data
    return (None, None) if data is None else split(data, calibration_samples=count, seed=seed)


def held_out(training: Dataset, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split training data into the samples to learn from and a held-out set to validate on.

    Raises DataError for fewer than two different samples.
    """
    count = max(1, min(_MOST_HELD_OUT, int(_HELD_OUT_SHARE * len(training))))
    chosen, rest = split(training, calibration_samples=count, seed=seed)
    return replace(rest, part="training"), replace(chosen, part="held-out")


def split(
    dataset: Dataset, *, calibration_samples: int = CALIBRATION_SAMPLES, at_most: float = 0.5, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Split into calibration and evaluation parts that share no sample, chosen by content and seed, not by order.

    Calibration gets at most the share ``at_most`` of the samples. Equal samples fall into the same part. Raises
    DataError for fewer than two different samples.
    """
    groups = _equal_samples(dataset)
    if len(groups) < 2:
        # Two are enough to split; the intervals of quality show if so few samples are enough to judge.
        raise DataError(
            f"{dataset.source.path}: too few samples to split: {len(dataset)} given, {len(groups)} different, at least "
            "2 needed",
            hint="give more samples, or separate files (--calibration, --train-data)",
        )
    salt = str(seed).encode()
    order = sorted(groups, key=lambda identity: hashlib.sha256(salt + identity).digest())
    wanted = min(calibration_samples, int(at_most * len(dataset)))
    calibration = _fill(order, groups, wanted) or groups[min(order, key=lambda identity: len(groups[identity]))]
    taken = set(calibration)
    evaluation = [index for identity in order for index in groups[identity] if index not in taken]
    return Dataset(dataset.source, calibration, "calibration"), Dataset(dataset.source, evaluation, "evaluation")


def divide(dataset: Dataset, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split into halves that share no sample: ``selection``, for decisions, and ``evaluation``, for the final figures.

    Raises DataError for fewer than two different samples.
    """
    chosen, rest = split(dataset, calibration_samples=len(dataset) // 2, seed=seed)
    return replace(chosen, part="selection"), rest


def check_disjoint(calibration: Dataset, evaluation: Dataset) -> None:
    """Raise a DataError if the two datasets share a sample."""
    known = _equal_samples(calibration)
    shared = [index for index in evaluation.indices if evaluation.source.identity(index) in known]
    if shared:
        what, did = ("training", "trained") if calibration.part == "training" else ("calibration", "calibrated")
        raise DataError(
            f"{what} and evaluation share {len(shared)} of {len(evaluation)} evaluation samples; the first is "
            f"{evaluation.source.where(shared[0])}",
            hint=f"quality on samples that {did} the model proves nothing: give --data alone, it is split for you",
        )


def _equal_samples(dataset: Dataset) -> dict[bytes, list[int]]:
    groups: dict[bytes, list[int]] = {}
    for index in dataset.indices:
        groups.setdefault(dataset.source.identity(index), []).append(index)
    return groups


def _fill(order: Sequence[bytes], groups: dict[bytes, list[int]], wanted: int) -> list[int]:
    """Choose whole groups of equal samples, in order, that fit into ``wanted`` samples."""
    chosen: list[int] = []
    for identity in order:
        if len(chosen) + len(groups[identity]) <= wanted:
            chosen += groups[identity]
    return chosen
