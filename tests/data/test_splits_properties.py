"""Splits of any data: no sample is shared, none is lost, and the same seed splits alike."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.data import splits
from optkit.data.dataset import open_dataset
from optkit.errors import DataError

VALUES = st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(lambda values: len(set(values)) > 1)
"""Samples of one number each; few numbers, so that many samples are equal."""
SEEDS = st.integers(0, 5)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def written(folder, values, name="data"):
    path = folder / f"{name}.npz"
    np.savez(path, x=np.array(values, np.float32)[:, None])
    return path


def numbers(dataset):
    return [int(dataset.source.sample(index).feed["x"].item()) for index in dataset.indices]


@given(VALUES, SEEDS, st.integers(1, 50))
def test_a_split_shares_no_sample_and_loses_none(folder, values, seed, wanted):
    whole = open_dataset(written(folder, values))
    chosen, rest = splits.split(whole, calibration_samples=wanted, seed=seed)
    assert sorted([*chosen.indices, *rest.indices]) == list(range(len(values)))
    assert not set(numbers(chosen)) & set(numbers(rest))
    assert chosen.indices
    assert rest.indices


@given(VALUES, SEEDS, st.integers(1, 50))
def test_a_split_takes_no_more_than_was_asked_for(folder, values, seed, wanted):
    chosen, _ = splits.split(open_dataset(written(folder, values)), calibration_samples=wanted, seed=seed)
    smallest = min(values.count(value) for value in values)
    assert len(chosen) <= max(smallest, min(wanted, len(values) // 2))


@given(VALUES, SEEDS, st.integers(1, 50), st.randoms(use_true_random=False))
def test_a_split_follows_from_content_and_seed_and_not_from_order(folder, values, seed, wanted, random):
    shuffled = random.sample(values, len(values))
    chosen, again = (
        splits.split(open_dataset(written(folder, each, name)), calibration_samples=wanted, seed=seed)[0]
        for name, each in (("one", values), ("other", shuffled))
    )
    assert len(chosen) == len(again)
    assert set(numbers(chosen)) == set(numbers(again))


@given(VALUES, SEEDS)
def test_halves_and_held_out_samples_share_none(folder, values, seed):
    whole = open_dataset(written(folder, values))
    for one, other in (splits.divide(whole, seed=seed), splits.held_out(whole, seed=seed)):
        assert len(one) + len(other) == len(whole)
        assert not set(numbers(one)) & set(numbers(other))


@given(VALUES, SEEDS, st.integers(1, 50), st.booleans(), st.booleans())
def test_parts_of_one_file_are_disjoint(folder, values, seed, wanted, calibrates, trains):
    found = splits.parts(
        written(folder, values), None, None,
        calibration_samples=wanted, seed=seed, calibrates=calibrates, trains=trains,
    )  # fmt: skip
    evaluated = set(numbers(found.evaluation))
    taught = set(numbers(found.training)) if found.training else set()
    calibrated = set(numbers(found.calibration)) if found.calibration else set()
    assert (found.training is not None) == trains
    assert (found.calibration is not None) == calibrates
    assert not evaluated & (taught | calibrated)
    assert evaluated | taught | calibrated == set(values)
    assert not found.calibration or len(found.calibration) <= max(wanted, max(map(values.count, values)))


@given(VALUES, VALUES, SEEDS, st.sampled_from(["training", "calibration"]))
def test_files_that_share_a_sample_are_refused_and_others_taken_as_they_are(folder, values, others, seed, part):
    paths = {part: written(folder, others, part), "data": written(folder, values)}
    arguments = {"data": None, "calibration": None, "training": None} | paths
    trains = part == "training"
    shared = bool(set(values) & set(others))
    try:
        found = splits.parts(**arguments, inputs=None, seed=seed, trains=trains, calibrates=not trains)
    except DataError as error:
        assert shared
        assert "share" in error.message  # noqa: PT017
    else:
        assert not shared
        assert numbers(found.evaluation) == values
        assert numbers(getattr(found, part)) == others
