"""Metrics: their values, their edges, their intervals."""

import numpy as np
import pytest

from optkit.data.dataset import open_dataset
from optkit.errors import DataError, MetricError, TargetError
from optkit.formats.tensors import Signature, parse_input
from optkit.metrics import significance
from optkit.metrics.metric import (
    FIDELITY,
    METRICS,
    choose_metric,
    join_outputs,
    loss_interval,
    metric_interval,
    parse_metric,
    weigh_evidence,
)

NO_FEED = {}


def value(text, outputs, truth, feed=NO_FEED):
    metric = parse_metric(text, labelled=not isinstance(truth, dict))
    outputs = outputs if isinstance(outputs, dict) else {"y": np.asarray(outputs, np.float32)}
    return metric.aggregate(metric.observations(outputs, truth, feed))


def dataset(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return open_dataset(tmp_path / "data.npz")


def model_with(*outputs):
    return Signature((), tuple(parse_input(text) for text in outputs))


LOGITS = [[3, 1, 0], [0, 2, 1], [1, 0, 5], [9, 0, 0]]


@pytest.mark.parametrize(
    ("text", "outputs", "truth", "expected"),
    [
        ("accuracy", LOGITS, np.array([0, 1, 2, 2]), 0.75),
        ("accuracy", LOGITS, np.array([[0], [1], [2], [2]]), 0.75),
        ("accuracy", LOGITS, np.array([0, 1, -100, 2]), 2 / 3),
        ("accuracy", [[-0.5], [0.2], [0.9]], np.array([0, 1, 0]), 2 / 3),
        ("accuracy", [-0.5, 0.2, 0.9], np.array([False, True, True]), 1.0),
        ("accuracy", {"probability": np.array([0.2, 0.9])}, np.array([0, 1]), 1.0),
        ("accuracy", {"ids": np.array([4, 7])}, np.array([4, 8]), 0.5),
        ("accuracy", [[[2, 0], [0, 2], [0, 2]]], np.array([[0, 0, -100]]), 0.5),
        ("f1", LOGITS, np.array([0, 1, 2, 2]), (2 / 3 + 1 + 2 / 3) / 3),
        ("mae", [1.0, 2.0], np.array([1.5, 2.0]), 0.25),
        ("mae", [[1.0], [2.0]], np.array([1.5, 2.0]), 0.25),
        ("rmse", [1.0, 2.0], np.array([1.0, 4.0]), 2**0.5),
        ("pearson", [1.0, 2.0, 3.0], np.array([2.0, 4.0, 6.0]), 1.0),
        ("pearson", [1.0, 1.0, 1.0], np.array([2.0, 4.0, 6.0]), 0.0),
        ("spearman", [1.0, 2.0, 30.0], np.array([3.0, 2.0, 1.0]), -1.0),
        ("mae", [[1.0, 2.0]], {"y": np.array([[1.0, 4.0]])}, 1.0),
        ("cosine", [[1.0, 0.0], [0.0, 2.0]], {"y": np.array([[2.0, 0.0], [1.0, 0.0]])}, 0.5),
        ("agreement", LOGITS, {"y": np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]], np.float32)}, 0.75),
        ("agreement", {"ids": np.array([1, 2])}, {"ids": np.array([1, 3])}, 0.5),
    ],
)
def test_a_metric_has_the_value_worked_out_by_hand(text, outputs, truth, expected):
    assert value(text, outputs, truth) == pytest.approx(expected)


def test_pixels_may_have_their_classes_on_the_second_axis():
    scores = np.zeros((1, 3, 2, 2), np.float32)
    scores[0, 2, 0, :] = 1
    assert value("accuracy", scores, np.array([[[2, 2], [0, 1]]])) == 0.75


def test_top5_looks_at_the_five_best_and_needs_more_than_five_classes():
    scores = np.arange(20, dtype=np.float32).reshape(2, 10)
    assert value("top5", scores, np.array([5, 4])) == 0.5
    with pytest.raises(MetricError, match="top5 needs more than 5 classes: output 'y' has 3"):
        value("top5", LOGITS, np.array([0, 1, 2, 2]))


def test_padded_positions_do_not_count():
    ours, theirs = np.ones((1, 4, 2), np.float32), np.ones((1, 4, 2), np.float32)
    ours[0, 2:, 0] = -50
    feed = {"attention_mask": np.array([[1, 1, 0, 0]])}
    assert value("cosine", {"y": ours}, {"y": theirs}, feed) == pytest.approx(1.0)
    assert value("mae", {"y": ours}, {"y": theirs}, feed) == 0.0
    assert value("agreement", {"y": ours}, {"y": theirs}, feed) == 1.0
    assert value("agreement", {"y": ours}, {"y": theirs}) == 0.5


def test_a_position_that_is_padding_cannot_be_chosen():
    ours, theirs = np.array([[1.0, 2.0, 9.0]], np.float32), np.array([[1.0, 2.0, 0.0]], np.float32)
    assert value("agreement", {"start": ours}, {"start": theirs}, {"attention_mask": np.array([[1, 1, 0]])}) == 1.0


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("accuracy", np.array([0, 0])),
        ("f1", np.array([0, 0])),
        ("cosine", {"y": np.ones((2, 2))}),
        ("agreement", {"y": np.array([[1.0, 0.0]] * 2)}),
    ],
)
def test_an_output_with_nan_scores_worst_and_is_not_dropped(text, truth):
    good, broken = [[5.0, 5.0], [5.0, 5.0]], [[5.0, 5.0], [np.nan, 5.0]]
    assert value(text, good, truth) == pytest.approx(1.0)
    assert value(text, broken, truth) < 0.7


def test_nan_makes_an_error_of_a_metric_that_has_no_worst_value():
    with pytest.raises(TargetError, match="NaN or infinity in 1 of 2 samples: mae has no value"):
        value("mae", [[1.0], [np.nan]], np.array([1.0, 2.0]))


def test_zero_vectors_are_equal_to_each_other_and_to_nothing_else():
    assert value("cosine", [[0.0, 0.0]], {"y": np.zeros((1, 2))}) == 1.0
    assert value("cosine", [[0.0, 0.0]], {"y": np.ones((1, 2))}) == 0.0


def test_infinities_that_both_outputs_share_do_not_count():
    assert value("mae", [[-np.inf, 1.0]], {"y": np.array([[-np.inf, 1.5]])}) == 0.5


def test_cosine_takes_the_worst_of_several_outputs_unless_one_is_named():
    reference = {"a": np.array([[1.0, 0.0]]), "b": np.array([[1.0, 0.0]])}
    outputs = {"a": np.array([[1.0, 0.0]]), "b": np.array([[0.0, 1.0]])}
    assert value("cosine", outputs, reference) == 0.0
    assert value("cosine:a", outputs, reference) == 1.0


@pytest.mark.parametrize("feed", [NO_FEED, {"sound": np.zeros((3, 5)), "rate": np.array(8000)}])
def test_an_output_with_its_samples_on_another_axis_counts_for_each(feed):
    speech = np.array([[1.0], [1.0], [1.0]])
    state = np.ones((2, 3, 4))
    reference = {"speech": speech, "state": state}
    same = parse_metric("cosine").observations(reference, reference, feed)
    assert same.tolist() == [[1.0, 1.0]] * 3
    other = {"speech": speech * [[1], [-1], [1]], "state": state * np.array([1, 0])[:, None, None]}
    assert parse_metric("cosine").observations(other, reference, feed)[:, 0].tolist() == [0.0, -1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "labelled", "message", "hint"),
    [
        ("acuracy", True, "unknown metric 'acuracy'", "did you mean 'accuracy'"),
        ("accuracy", False, "metric 'accuracy' needs labels, and the data has none", "mae, rmse, cosine, agreement"),
        ("mae:", True, "metric 'mae:' names no output after the colon", "mae:logits"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_with_a_way_on(text, labelled, message, hint):
    with pytest.raises(MetricError) as caught:
        parse_metric(text, labelled=labelled)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_an_unknown_output_is_refused_with_those_there_are(tmp_path):
    labelled = dataset(tmp_path, x=np.zeros((2, 1)), labels=np.zeros(2, int))
    with pytest.raises(MetricError, match="no output 'logit'") as caught:
        choose_metric("accuracy:logit", labelled, model_with("logits:float32[n,3]", "hidden:float32[n,8]"))
    assert "did you mean 'logits'? known: logits, hidden" in caught.value.hint


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 2, 3]), "label 3 is out of range: output 'y' has 3 classes, 0 to 2"),
        (np.array([0, 1, 2, -1]), "label -1 is out of range"),
        (np.array([0.0, 1, 2, 2]), "labels have dtype float64"),
        (np.array(["cat"] * 4), "labels have dtype <U3"),
        (np.array([-100] * 4), "every label is ignored"),
    ],
)
def test_labels_that_are_no_classes_of_the_output_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        value("accuracy", LOGITS, labels)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(MetricError, match=r"labels of shape \[3\] do not fit output 'y' of shape \[4, 3\]"):
        value("accuracy", LOGITS, np.array([0, 1, 2]))
    with pytest.raises(MetricError, match=r"output 'y' has shape \[2, 2\], expected is \[2, 3\]"):
        value("cosine", np.ones((2, 2)), {"y": np.ones((2, 3))})


@pytest.mark.parametrize(
    ("labels", "output", "expected"),
    [
        (np.arange(3), "y:float32[n,3]", "accuracy"),
        (np.array([0, 1, 1]), "y:float32[n,1]", "accuracy"),
        (np.array([20, 31, 45]), "y:float32[n,1]", "mae"),
        (np.array([0.5, 1, 2]), "y:float32[n,1]", "mae"),
        (None, "y:float32[n,3]", "cosine"),
    ],
)
def test_the_default_metric_follows_labels_and_output(tmp_path, labels, output, expected):
    arrays = {"x": np.zeros((3, 1))} | ({} if labels is None else {"labels": labels})
    assert choose_metric(None, dataset(tmp_path, **arrays), model_with(output)).name == expected


def test_mae_takes_the_labels_where_there_are_some_and_the_reference_otherwise():
    assert parse_metric("mae", labelled=True).needs == "labels"
    assert parse_metric("mae", labelled=False).needs == "reference"


def test_observations_of_batches_join_also_when_texts_differ_in_length():
    metric = parse_metric("f1")
    parts = [
        metric.observations({"y": np.eye(2, dtype=np.float32)[labels]}, labels, {})
        for labels in (np.array([[0, 1]]), np.array([[1, 1, 0]]))
    ]
    joined = join_outputs(parts)
    assert joined.shape == (2, 3, 2)
    assert metric.aggregate(joined) == 1.0


def shares(right, count):
    return np.array([[1, 1]] * right + [[0, 1]] * (count - right), float)


def test_accuracy_has_wilsons_interval_which_is_never_empty():
    found = metric_interval(shares(100, 100), parse_metric("accuracy"))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.963, abs=1e-3)


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    metric, generator = parse_metric("cosine", labelled=False), np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        draws = generator.normal(0.5, 0.1, 20)
        found = metric_interval(np.stack([draws, np.ones(20)], 1), metric, seed=seed)
        covered += found.low <= 0.5 <= found.high
    assert 88 <= covered <= 100


def test_a_loss_is_positive_when_worse_whichever_way_is_better():
    assert loss_interval(shares(80, 100), shares(90, 100), parse_metric("accuracy")).value == pytest.approx(0.1)
    errors = np.stack([np.linspace(1, 2, 50), np.ones(50)], 1)
    lost = loss_interval(errors + np.array([0.5, 0]), errors, parse_metric("mae"))
    assert lost.value == pytest.approx(0.5)
    assert lost.low == pytest.approx(lost.high)


def test_a_model_compared_with_itself_lost_nothing_but_few_samples_leave_room():
    few, many = (
        loss_interval(shares(right, right), shares(right, right), parse_metric("accuracy")) for right in (20, 2000)
    )
    assert few.value == many.value == 0.0
    assert few.high > 0.05
    assert many.high < 0.002


def test_fidelity_has_a_perfect_baseline():
    metric = parse_metric("cosine", labelled=False)
    observations = np.stack([np.linspace(0.9, 1.0, 50), np.ones(50)], 1)
    lost = loss_interval(observations, None, metric)
    assert lost.value == pytest.approx(0.05)
    assert 0 < lost.low < 0.05 < lost.high
    assert loss_interval(np.array([[0.0, 1.0]] * 3), None, parse_metric("mae", labelled=False)).value == 0.0


def test_one_sample_has_no_interval():
    with pytest.raises(DataError, match="cosine: an interval takes two samples"):
        metric_interval(np.array([[1.0, 1.0]]), parse_metric("cosine", labelled=False))


def test_every_metric_aggregates_resampled_rows():
    generator = np.random.default_rng(0)
    outputs = {"y": generator.standard_normal((12, 7)).astype(np.float32)}
    reference = {"y": outputs["y"] + 0.1}
    classes = generator.integers(0, 7, 12)
    for name in METRICS:
        if name in ("pearson", "spearman"):
            metric, made, truth = parse_metric(name), {"y": outputs["y"][:, :1]}, generator.standard_normal(12)
        else:
            fidelity = name in FIDELITY
            metric, made, truth = parse_metric(name, labelled=not fidelity), outputs, reference if fidelity else classes
        found = metric_interval(metric.observations(made, truth, {}), metric)
        assert found.low <= found.value <= found.high


class TestMcNemar:
    @pytest.mark.parametrize(
        ("only_first", "only_second", "expected"),
        [
            (0, 0, 1.0),
            (7, 7, 1.0),
            (5, 0, 2 / 2**5),
            (0, 6, 2 / 2**6),
            (10, 2, 2 * (1 + 12 + 66) / 2**12),
            (150, 86, 3.716e-05),  # approval ratings: Agresti, Categorical Data Analysis (1990), p. 350
        ],
    )
    def test_has_the_p_value_worked_out_by_hand(self, only_first, only_second, expected):
        assert significance.p_value(only_first, only_second) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("only_first", [0, 1, 3, 17, 90, 3_000])
    @pytest.mark.parametrize("only_second", [1, 4, 25, 2_800, 3_100])
    def test_is_the_binomial_test_of_scipy(self, only_first, only_second):
        stats = pytest.importorskip("scipy.stats")
        expected = stats.binomtest(only_first, only_first + only_second).pvalue
        assert significance.p_value(only_first, only_second) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("only_candidate", [0, 1, 5, 40])
    @pytest.mark.parametrize("count", [200, 1500])
    def test_detects_the_first_loss_that_is_no_chance(self, only_candidate, count):
        lost = round(significance.detectable(only_candidate, count) * count) + only_candidate
        assert significance.p_value(lost, only_candidate) < 0.05 <= significance.p_value(lost - 1, only_candidate)
        assert lost - only_candidate >= 6

    def test_detects_nothing_on_five_samples(self):
        assert significance.detectable(0, 5) is None
        assert significance.detectable(0, 6) == 1.0


class TestTheEvidenceOfALoss:
    def of(self, candidate, baseline, metric):
        return weigh_evidence(candidate, baseline, metric, loss_interval(candidate, baseline, metric))

    def test_is_mcnemars_where_samples_are_right_or_wrong(self):
        found = self.of(shares(90, 100), shares(98, 100), parse_metric("accuracy"))
        assert found.test == "mcnemar"
        assert found.p_value == pytest.approx(2 / 2**8)
        assert found.detectable == pytest.approx(0.06)

    def test_is_the_bootstraps_width_for_other_metrics(self):
        errors = np.array([[0.1, 1.0], [0.2, 1.0], [0.4, 1.0], [0.1, 1.0]])
        worse = errors + np.array([[0.1, 0], [0.0, 0], [0.3, 0], [0.2, 0]])
        lost = loss_interval(worse, errors, parse_metric("mae"))
        found = weigh_evidence(worse, errors, parse_metric("mae"), lost)
        assert (found.test, found.p_value) == ("bootstrap", None)
        assert found.detectable == pytest.approx(lost.high - lost.value)

    def test_is_no_test_of_pairs_where_the_baseline_is_perfect(self):
        assert self.of(shares(90, 100), None, parse_metric("agreement", labelled=False)).test == "wilson"
        cosines = np.array([[0.99, 1.0], [0.98, 1.0], [1.0, 1.0]])
        assert self.of(cosines, None, parse_metric("cosine", labelled=False)).test == "bootstrap"

    def test_is_of_no_size_where_nothing_differs(self):
        errors = np.array([[0.1, 1.0], [0.2, 1.0]])
        assert self.of(errors, errors, parse_metric("mae")).detectable is None

    def test_counts_several_decisions_of_a_sample_as_no_toss_of_one_coin(self):
        tokens = np.array([[3.0, 4.0], [4.0, 4.0], [2.0, 4.0]])
        assert self.of(tokens, tokens, parse_metric("accuracy")).test == "bootstrap"
