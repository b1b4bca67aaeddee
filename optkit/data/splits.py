"""Which samples train, calibrate and evaluate: parts that share none, by content and seed, not by order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optkit.data import dataset as datasets
from optkit.data.dataset import Dataset, DataSpec
from optkit.errors import DataError
from optkit.formats.tensors import TensorSpec

_TRAINING_SHARE = 0.8
"""Of data that is given alone, where training is wanted."""
_HELD_OUT_SHARE = 0.1
_MOST_HELD_OUT = 2000
"""Training is watched on a tenth of its data, and on no more samples than tell losses apart."""


@dataclass(frozen=True)
class Parts:
    """Data by what it is used for."""

    training: Dataset | None = None
    calibration: Dataset | None = None
    evaluation: Dataset | None = None


def parts(
    data: str | Path | DataSpec | None,
    calibration: str | Path | DataSpec | None,
    inputs: Sequence[TensorSpec] | None,
    *,
    training: str | Path | DataSpec | None = None,
    calibration_samples: int = 300,
    seed: int = 0,
    calibrates: bool = True,
    trains: bool = False,
) -> Parts:
    """Parts that share no sample: as given, or split off ``data``; calibration samples are taken from the training data
    where there is some.

    ``calibrates`` and ``trains`` say what is wanted. Raises DataError.
    """
    given = None if data is None else datasets.open(data, inputs)
    learnt = None
    if trains:
        if training is not None:
            learnt = replace(datasets.open(training, inputs), part="training")
        elif given is not None:
            count = int(_TRAINING_SHARE * len(given))
            learnt, given = split(given, calibration_samples=count, at_most=_TRAINING_SHARE, seed=seed)
            learnt = replace(learnt, part="training")
        if learnt is not None and given is not None and training is not None:
            check_disjoint(learnt, given)
    calibrating = None
    if calibration is not None:
        calibrating = datasets.open(calibration, inputs).take(calibration_samples)
        if given is not None:
            check_disjoint(calibrating, given)
    elif calibrates and learnt is not None:
        calibrating = learnt.take(calibration_samples)
    elif calibrates and given is not None:
        calibrating, given = split(given, calibration_samples=calibration_samples, seed=seed)
    return Parts(
        learnt,
        calibrating and replace(calibrating, part="calibration"),
        given and replace(given, part="evaluation"),
    )


def held_out(training: Dataset, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """What training learns from, and what it is watched on. Raises DataError for fewer than two different samples."""
    count = max(1, min(_MOST_HELD_OUT, int(_HELD_OUT_SHARE * len(training))))
    watched, rest = split(training, calibration_samples=count, seed=seed)
    return replace(rest, part="training"), replace(watched, part="held-out")


def split(
    dataset: Dataset, *, calibration_samples: int = 300, at_most: float = 0.5, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Calibration and evaluation parts that share no sample, chosen by content and seed, not by order.

    Equal samples fall into the same part. Raises DataError when there are too few samples.
    """
    groups = _equal_samples(dataset)
    if len(groups) < 2:
        # Two is all that a split needs; whether so few samples show anything is for the intervals to say.
        raise DataError(
            f"{dataset.source.path}: too few samples to split: {len(dataset)} given, {len(groups)} different, at least "
            "2 needed",
            hint="give more samples, or the parts apart (--calibration, --train-data)",
        )
    salt = str(seed).encode()
    order = sorted(groups, key=lambda identity: hashlib.sha256(salt + identity).digest())
    wanted = min(calibration_samples, int(at_most * len(dataset)))
    calibration = _fill(order, groups, wanted) or groups[min(order, key=lambda identity: len(groups[identity]))]
    taken = set(calibration)
    evaluation = [index for identity in order for index in groups[identity] if index not in taken]
    return Dataset(dataset.source, calibration, "calibration"), Dataset(dataset.source, evaluation, "evaluation")


def divide(dataset: Dataset, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Halves that share no sample: ``selection``, which decisions may use, and ``evaluation``, which none does.

    Raises DataError where there are not two different samples.
    """
    chosen, rest = split(dataset, calibration_samples=len(dataset) // 2, seed=seed)
    return replace(chosen, part="selection"), rest


def check_disjoint(calibration: Dataset, evaluation: Dataset) -> None:
    """Raise a DataError when two given sets share a sample."""
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
    """Whole groups, in order, as far as they fit into ``wanted`` samples."""
    chosen: list[int] = []
    for identity in order:
        if len(chosen) + len(groups[identity]) <= wanted:
            chosen += groups[identity]
    return chosen
