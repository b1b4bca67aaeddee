"""Datasets: reading them, refusing them, splitting them."""

import numpy as np
import pytest

from optkit import data
from optkit.tensors import parse_inputs

X = parse_inputs(["x:float32[batch,3]"])


def rows(count, width=3, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype("float32")


def written(tmp_path, name="data.npz", save=np.savez, **arrays):
    save(tmp_path / name, **arrays)
    return tmp_path / name


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_sliced_along_the_sample_axis_and_carries_labels(tmp_path, save):
    x, labels = rows(5), np.arange(5)
    dataset = data.open(written(tmp_path, save=save, x=x, labels=labels), X)
    batches = list(dataset.batches(2))
    assert [batch.count for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([batch.feed["x"] for batch in batches]), x)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), labels)
    assert dataset.labelled
    dataset.check(X)


def test_a_column_major_array_and_a_foreign_byte_order_read_like_any_other(tmp_path):
    x = np.random.default_rng(0).standard_normal((7, 3, 4)).astype(">f4")
    dataset = data.open(written(tmp_path, x=np.asfortranarray(x)), parse_inputs(["x:float32[n,3,4]"]))
    read = np.concatenate([batch.feed["x"] for batch in dataset.batches()])
    np.testing.assert_array_equal(read, x)
    assert read.dtype == np.float32


def test_an_extra_leading_axis_holds_whole_feeds(tmp_path):
    dataset = data.open(written(tmp_path, x=rows(8).reshape(4, 2, 3), labels=np.arange(8).reshape(4, 2)), X)
    batches = list(dataset.batches(16))
    assert [batch.count for batch in batches] == [2, 2, 2, 2]
    assert batches[1].feed["x"].shape == (2, 3)
    assert batches[1].labels.tolist() == [2, 3]
    dataset.check(X)


def test_a_folder_of_npz_holds_feeds_of_any_size_in_the_order_of_names(tmp_path):
    for name, count in (("b", 2), ("a", 1), ("c", 5)):
        written(tmp_path, f"{name}.npz", x=rows(count), labels=np.zeros(count, int))
    dataset = data.open(tmp_path, X)
    assert [batch.count for batch in dataset.batches(4)] == [1, 2, 5]
    assert dataset.labelled
    dataset.check(X)


def test_the_last_batch_can_be_filled_up_for_a_model_of_a_fixed_batch_size(tmp_path):
    dataset = data.open(written(tmp_path, x=rows(5), labels=np.arange(5)), parse_inputs(["x:float32[4,3]"]))
    last = list(dataset.batches(4, pad=True))[-1]
    assert (last.feed["x"].shape, last.count, len(last.labels)) == ((4, 3), 1, 1)
    dataset.check(parse_inputs(["x:float32[4,3]"]))
