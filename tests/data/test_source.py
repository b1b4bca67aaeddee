"""The contract of a source, over the table: a new kind of data is tested by its line there and an example here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optkit import lazy
from optkit.data.dataset import SOURCES, digest_of, open_dataset
from optkit.errors import DataError, UsageError
from optkit.formats.tensors import TensorSpec

ROOT = Path(__file__).parents[2]
SAVED = ROOT / "tests" / "saved" / "0.1.0"
PARTS = {"npz": "data.npz", "feeds": "feeds", "images": "photos", "text": "texts.jsonl", "callable": "feeds.py"}
"""The file or folder of the samples of an example."""
EXAMPLES = PARTS | {"images": "photos.yaml", "text": "texts.yaml", "callable": "feeds.py:feeds"}
OTHERS = shutil.ignore_patterns("bundles", "cache", "intel", "models", "recipes", "records", "runs", "searches")
NEEDS = {"text": "tokenizers"}
INPUTS = dict.fromkeys(EXAMPLES, (TensorSpec("x", "float32", ("batch", 1, 8, 8)),))
INPUTS["text"] = tuple(TensorSpec(name, "int64", ("batch", 6)) for name in ("ids", "mask"))
DIGESTS = """
import json, sys
from test_source import opened
print(json.dumps([opened(kind).digest for kind in sys.argv[1:]]))
"""


@pytest.fixture(params=SOURCES)
def kind(request):
    pytest.importorskip(NEEDS.get(request.param, "numpy"))
    return request.param


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The examples in a folder of their own, which is the current one."""
    shutil.copytree(SAVED, tmp_path, ignore=OTHERS, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(kind):
    return open_dataset(EXAMPLES[kind], INPUTS[kind])


@pytest.fixture
def dataset(kind, folder):
    return opened(kind)


def content(batch):
    return digest_of({**batch.feed, "labels": batch.labels})


def test_it_fits_the_models_inputs_and_has_one_label_for_each_sample(kind, dataset):
    assert len(dataset) == len(dataset.source) > 1
    assert type(dataset.source).__name__ == SOURCES[kind].partition(":")[2]
    dataset.check(INPUTS[kind])
    samples = [dataset.source.sample(index) for index in dataset.indices]
    assert dataset.labelled
    assert all(len(each.labels) == each.count for each in samples)
    assert dataset.source.whole_feeds or all(each.count == 1 for each in samples)


def test_samples_are_read_in_any_order_and_again(dataset):
    forwards = [content(dataset.source.sample(index)) for index in range(len(dataset))]
    for index in reversed(range(len(dataset))):
        sample = dataset.source.sample(index)
        assert content(sample) == forwards[index]
        assert np.array_equal(dataset.source.label(index), sample.labels)
    names = {dataset.source.where(index) for index in dataset.indices}
    assert len(names) == len(dataset)
    assert "\n" not in "".join(names)


def test_batches_hold_all_samples_in_order_and_slices_a_part(dataset):
    single = list(dataset.batches())
    for size in (1, 3, len(dataset) + 1):
        batches = list(dataset.batches(size))
        assert sum(each.count for each in batches) == sum(each.count for each in single)
        for name in single[0].feed:
            wanted, found = ([row for each in many for row in each.feed[name]] for many in (single, batches))
            assert all(map(np.array_equal, wanted, found))
    part = dataset.take(2)
    assert [content(each) for each in part.batches()] == [content(part.source.sample(each)) for each in part.indices]
    assert len(part) == 2


def test_equal_content_has_an_equal_digest(kind, dataset):
    assert opened(kind).digest == dataset.digest
    assert dataset.source.identity(0) == dataset.source.content(0) != dataset.source.identity(1)
    assert dataset.take(1).digest != dataset.digest


def test_digests_are_the_same_in_another_process(folder):
    kinds = [kind for kind in EXAMPLES if lazy.available(NEEDS.get(kind, "numpy"))]
    here = [opened(kind).digest for kind in kinds]
    command = [sys.executable, "-c", DIGESTS, *kinds]
    environment = os.environ | {
        "PYTHONHASHSEED": "1",
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "tests/data"])),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == here


def test_other_inputs_are_refused_in_one_line(kind, folder):
    others = tuple(TensorSpec(name, "float32", ("batch", 1, 8, 8)) for name in ("one", "two"))
    with pytest.raises(UsageError) as caught:
        open_dataset(EXAMPLES[kind], others).check(others)
    assert caught.value.hint


def test_a_broken_file_is_a_data_error_that_names_it(kind, folder):
    part = folder / PARTS[kind]
    for file in [each for each in part.rglob("*") if each.is_file()] or [part]:
        file.write_bytes(b"nothing \xff")
    with pytest.raises(DataError, match=part.name) as caught:
        opened(kind).check(INPUTS[kind])
    assert "\n" not in caught.value.message
