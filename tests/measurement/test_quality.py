"""Quality over workers: the same samples for all, labels or the baseline's outputs, fixed batches, failures."""

from pathlib import Path

import numpy as np
import pytest

from optkit.data.dataset import open_dataset
from optkit.errors import DataError, MetricError, SignatureError, TargetError
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import quality
from optkit.measurement.candidate import Candidate
from optkit.targets.fake.target import Fake

SAMPLES = 101
INPUTS = np.random.default_rng(0).standard_normal((SAMPLES, 4)).astype(np.float32)


def signature(batch="batch", outputs=("logits",)):
    specs = tuple(TensorSpec(name, "float32", (batch, 3)) for name in outputs)
    return Signature((TensorSpec("x", "float32", (batch, 4)),), specs)


def fake(name="model", *, shape=None, **options):
    model = Model(Path("model.onnx"), "onnx", "sha256:0", shape or signature())
    return Candidate(name, model, "fake", Fake().default_options() | options)


def right_classes():
    """What the fake target decides."""
    from optkit.targets.target import target

    session = target("fake").open(fake().model, fake().options)
    return session.run({"x": INPUTS})["logits"].argmax(axis=1)


def dataset(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **{"x": INPUTS} | arrays)
    return open_dataset(path, signature().inputs)


@pytest.fixture
def labelled(tmp_path):
    return dataset(tmp_path, labels=right_classes())


@pytest.fixture
def unlabelled(tmp_path):
    return dataset(tmp_path)


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_accuracy_is_the_same_for_any_batch_size(labelled, batch):
    (found,) = quality.assess([fake()], labelled, batch=batch)
    assert found.quality.metric == "accuracy"
    assert found.quality.value.value == 1.0
    assert found.quality.count == SAMPLES
    assert found.quality.loss is None


def test_the_loss_is_taken_on_the_same_samples_as_the_baselines(labelled):
    good, bad = quality.assess([fake(), fake(error=1.0)], labelled, batch=50)
    assert 0.3 < bad.quality.value.value < 0.95
    assert bad.quality.loss.value == pytest.approx(1.0 - bad.quality.value.value)
    assert bad.quality.loss.low > 0
    assert bad.quality.test == "mcnemar"
    assert bad.quality.p_value < 0.001
    assert bad.quality.detectable == pytest.approx(6 / SAMPLES)
    assert good.quality.test is None
    assert good.quality.loss is None


def test_a_model_loses_nothing_against_itself(labelled):
    _, same = quality.assess([fake(), fake()], labelled, batch=50)
    assert same.quality.loss.value == 0
    assert same.quality.loss.low <= 0 <= same.quality.loss.high


def test_without_labels_outputs_are_compared_with_the_baselines(unlabelled):
    own, near, far = quality.assess([fake(), fake(error=0.01), fake(error=1.0)], unlabelled, batch=10)
    assert own.quality.metric == "cosine"
    assert own.quality.value.value == pytest.approx(1.0)
    assert not own.quality.needs_labels
    assert near.quality.value.value > 0.99 > far.quality.value.value
    assert far.quality.loss.value == pytest.approx(1.0 - far.quality.value.value)


def test_a_recorded_baseline_need_not_run_again(unlabelled):
    recording = quality.Recording()
    once = quality.assess([fake(), fake(error=0.1)], unlabelled, batch=7, recording=recording)
    failing = fake(fault="run")
    again = quality.assess([failing, fake(error=0.1)], unlabelled, batch=7, recording=recording)
    assert again == once
    with pytest.raises(TargetError):
        quality.assess([failing, fake(error=0.1)], unlabelled, batch=8, recording=recording)


def test_outputs_of_other_names_are_matched_by_position(unlabelled):
    other = fake(shape=signature(outputs=("output",)))
    _, found = quality.assess([fake(), other], unlabelled, "agreement")
    assert found.quality.value.value == 1.0


def test_outputs_that_cannot_be_matched_are_the_candidates_error(unlabelled):
    other = fake(shape=signature(outputs=("a", "b")))
    _, found = quality.assess([fake(), other], unlabelled, "agreement")
    assert "a, b are not those of the baseline: logits" in found.error.message


def test_a_fixed_batch_is_filled_up_and_the_filling_not_counted(labelled):
    fixed = fake(shape=signature(batch=8))
    free, found = quality.assess([fake(), fixed], labelled, batch=1)
    assert found.quality.count == free.quality.count == SAMPLES
    assert found.quality.value.value == 1.0


def test_a_candidate_that_crashes_leaves_the_others_alone(labelled):
    good, crashed, other = quality.assess([fake(), fake(fault="crash"), fake()], labelled, batch=50)
    assert crashed.error.message.startswith("crashed (SIGSEGV)")
    assert good.quality.value == other.quality.value


def test_a_failing_baseline_ends_the_assessment(labelled):
    with pytest.raises(TargetError, match="bad shape"):
        quality.assess([fake(fault="run"), fake()], labelled)


def test_a_metric_that_needs_labels_is_refused_without_them(unlabelled):
    with pytest.raises(MetricError, match="'accuracy' needs labels, and the data has none") as caught:
        quality.assess([fake()], unlabelled, "accuracy")
    assert "labels" in caught.value.hint


def test_fidelity_of_a_lone_model_asks_for_a_reference(unlabelled):
    with pytest.raises(MetricError, match="there is none") as caught:
        quality.assess([fake()], unlabelled)
    assert "--reference" in caught.value.hint


def test_an_unknown_metric_is_answered_with_the_nearest(labelled):
    with pytest.raises(MetricError, match="unknown metric 'acuracy'") as caught:
        quality.assess([fake()], labelled, "acuracy")
    assert "did you mean 'accuracy'?" in caught.value.hint


def test_data_that_does_not_fit_the_model_names_file_and_axis(tmp_path):
    with pytest.raises(SignatureError, match=r"data\.npz.*size 5 at axis 1, not 4"):
        quality.assess([fake(), fake()], dataset(tmp_path, x=np.zeros((10, 5), np.float32)))


def test_nan_in_the_data_is_found_before_it_is_blamed_on_a_model(tmp_path):
    broken = INPUTS.copy()
    broken[17, 2] = np.nan
    with pytest.raises(DataError, match=r"sample 17.*NaN"):
        quality.assess([fake(), fake()], dataset(tmp_path, x=broken))


def test_whole_feeds_of_several_sizes_are_run_one_by_one(tmp_path):
    folder = tmp_path / "feeds"
    folder.mkdir()
    for size in (1, 2, 3):
        np.savez(folder / f"{size}.npz", x=INPUTS[:size])
    feeds = open_dataset(folder, signature().inputs)
    _, found = quality.assess([fake(), fake()], feeds, "cosine", batch=16)
    assert found.quality.value.value == pytest.approx(1.0)
