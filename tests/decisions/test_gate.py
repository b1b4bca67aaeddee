"""The release gate: rules, exit codes, files for other tools; over records of known figures and over real models."""

import json
import shutil

import numpy as np
import onnx
import pytest
from junitparser import Failure, JUnitXml, Skipped
from onnx import numpy_helper

import optkit as ok
from optkit.decisions.gate import judge_candidate, judge_rules, overall_verdict
from optkit.errors import ModelError, UsageError
from optkit.options.rules import Rules
from optkit.records.comparison import Comparison, LatencyRecord, QualityRecord, Row
from optkit.records.model import ModelRecord
from optkit.records.record import Interval
from optkit.records.run import Run
from optkit.system import fingerprint


def interval(value, low, high):
    return Interval(value=value, low=low, high=high)


def row(name, *, baseline=False, speedup=None, loss=None, size=1000, metric="accuracy", **more):
    quality = QualityRecord(
        metric=metric,
        value=interval(0.9, 0.88, 0.92),
        count=500,
        higher_is_better=True,
        needs_labels=True,
        loss=loss and interval(*loss),
    )
    latency = LatencyRecord(
        count=5000,
        mean=0.01,
        median=0.01,
        p99=0.02,
        p99_interval=interval(0.02, 0.019, 0.021),
        mean_interval=interval(0.01, 0.0099, 0.0101),
    )
    return Row(
        **{
            "name": name,
            "target": "onnxruntime",
            "baseline": baseline,
            "batch": 1,
            "model": ModelRecord(path=name, format="onnx", digest="", size_bytes=size),
            "latency": latency,
            "throughput": 100.0,
            "throughput_interval": interval(100.0, 99.0, 101.0),
            "speedup": speedup and interval(*speedup),
            "memory_bytes": 100_000_000,
            "quality": quality,
        }
        | more
    )


def comparison(*candidates):
    rows = [row("old", baseline=True), *candidates]
    return Comparison(rows=rows, batch=1, rounds=50, machine=fingerprint.fingerprint(), seconds=1.0)


def verdicts(limits, **candidate):
    compared = comparison(row("new", **candidate))
    return [rule.verdict for rule in judge_rules(Rules(**limits), compared, compared.rows[1])]


@pytest.mark.parametrize(
    ("limits", "candidate", "verdict"),
    [
        ({"max_drop": 0.01}, {"loss": (0.002, -0.004, 0.008)}, "pass"),
        ({"max_drop": 0.01}, {"loss": (0.002, -0.02, 0.03)}, "inconclusive"),
        ({"max_drop": 0.01}, {"loss": (0.05, 0.03, 0.07)}, "fail"),
        ({"max_drop": 0.01}, {"quality": None}, "inconclusive"),
        ({"min_speedup": 1.5}, {"speedup": (1.6, 1.55, 1.65)}, "pass"),
        ({"min_speedup": 1.5}, {"speedup": (1.5, 1.45, 1.55)}, "inconclusive"),
        ({"min_speedup": 1.5}, {"speedup": (1.2, 1.15, 1.25)}, "fail"),
        ({"max_slowdown": 1.05}, {"speedup": (1.0, 0.98, 1.02)}, "pass"),
        ({"max_slowdown": 1.05}, {"speedup": (0.9, 0.88, 0.92)}, "fail"),
        ({"max_p99": 0.03}, {}, "pass"),
        ({"max_p99": 0.0205}, {}, "inconclusive"),
        ({"max_p99": 0.01}, {}, "fail"),
        ({"min_throughput": 90}, {}, "pass"),
        ({"min_throughput": 100}, {}, "inconclusive"),
        ({"min_throughput": 200}, {}, "fail"),
        ({"max_size_ratio": 0.5}, {"size": 400}, "pass"),
        ({"max_size_ratio": 0.5}, {"size": 600}, "fail"),
        ({"max_memory": 200_000_000}, {}, "pass"),
        ({"max_memory": 50_000_000}, {}, "fail"),
        ({"max_memory": 50_000_000}, {"memory_bytes": None}, "inconclusive"),
    ],
)
def test_a_rule_ends_by_where_the_whole_interval_lies(limits, candidate, verdict):
    assert verdicts(limits, **candidate) == [verdict]


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        ({"speedup": (1.3, 1.28, 1.32), "loss": (0.001, -0.004, 0.006)}, ["pass", "pass"]),
        ({"speedup": (0.9, 0.88, 0.92), "loss": (0.001, -0.004, 0.006)}, ["fail", "pass"]),
        ({"speedup": (1.3, 1.28, 1.32), "loss": (0.3, 0.25, 0.35)}, ["pass", "fail"]),
        ({"speedup": (1.3, 1.28, 1.32), "loss": (0.0, -0.1, 0.1)}, ["pass", "inconclusive"]),
    ],
)
def test_without_rules_a_candidate_may_not_be_worse(candidate, expected):
    assert verdicts({}, **candidate) == expected


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({}, "pass"),
        ({"max_drop": 0}, "pass"),
        ({"min_speedup": 1}, "pass"),
        ({"max_slowdown": 1}, "pass"),
        ({"max_size_ratio": 1}, "pass"),
        ({"min_speedup": 1.01}, "fail"),
        ({"max_size_ratio": 0.99}, "fail"),
        ({"max_p99": 0.01}, "fail"),
    ],
)
def test_a_baseline_is_exactly_as_good_as_itself(limits, verdict):
    compared = comparison()
    judged = judge_candidate(Rules(**limits), compared, compared.rows[0])
    assert judged.verdict == verdict
    assert judged.candidate == judged.baseline == "old on onnxruntime"


def test_an_inconclusive_loss_says_what_would_have_shown():
    told = {"test": "mcnemar", "p_value": 0.454, "detectable": 0.012}
    compared = comparison(row("new", loss=(0.002, -0.02, 0.03)))
    quality = compared.rows[1].quality.model_copy(update=told)
    candidate = compared.rows[1].model_copy(update={"quality": quality})
    (judged,) = judge_rules(Rules(max_drop=0.01), compared, candidate)
    assert judged.reason == (
        "accuracy lost 0.0020 (-0.0200 to 0.0300) on 500 samples, McNemar p = 0.454, losses from 0.0120 on would show; "
        "at most 0.01"
    )


def test_a_candidate_that_does_not_run_fails():
    assert verdicts({}, status="failed", reason="crashed (SIGSEGV)") == ["fail"]


def test_one_failed_rule_outweighs_all():
    compared = comparison(row("new", speedup=(2, 1.9, 2.1), loss=(0.0, -0.1, 0.1)))
    judged = judge_rules(Rules(min_speedup=3, max_drop=0.01, max_size_ratio=2), compared, compared.rows[1])
    assert [rule.verdict for rule in judged] == ["inconclusive", "fail", "pass"]
    assert overall_verdict(judged) == "fail"


@pytest.mark.parametrize(("text", "seconds"), [("20ms", 0.02), ("1.5 s", 1.5), ("300us", 0.0003), (0.01, 0.01)])
def test_a_time_may_have_a_unit(text, seconds):
    assert Rules(max_p99=text).max_p99 == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("limits", "says"), [({"max_p99": "20x"}, "max_p99 20x: '20x' is not a time"), ({"min_speedup": -1}, "min_speedup")]
)
def test_a_limit_that_means_nothing_is_refused(limits, says):
    with pytest.raises(UsageError, match=says):
        ok.gate("new.onnx", baseline="old.onnx", **limits)


def saved(tmp_path, compared):
    path = tmp_path / "comparison.json"
    path.write_text(compared.to_json())
    return path


def test_a_saved_comparison_is_judged_as_a_fresh_one(tmp_path, optkit):
    path = saved(tmp_path, comparison(row("new", speedup=(2.0, 1.9, 2.1), loss=(0.001, -0.004, 0.006))))
    done = optkit("gate", "--record", path, "--max-drop", "0.01", "--min-speedup", "1.5", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "pass"


def test_a_record_of_another_machine_tells_ratios_only(tmp_path):
    here = comparison(row("new", speedup=(2.0, 1.9, 2.1), loss=(0.001, -0.004, 0.006)))
    elsewhere = here.model_copy(update={"machine": here.machine.model_copy(update={"cpu": "Another CPU"})})
    path = saved(tmp_path, elsewhere)
    with pytest.raises(UsageError, match="cpu: Another CPU there"):
        ok.gate(record=path, max_p99=0.03)
    found = ok.gate(record=path, min_speedup=1.5)
    assert found.verdict == "pass"
    assert "another machine" in found.notes[0].text


@pytest.fixture(scope="module")
def measured(samples, tmp_path_factory):
    """A real comparison of two copies of the sample, whose record then claims another processor."""
    folder = tmp_path_factory.mktemp("measured")
    for name in ("old.onnx", "new.onnx"):
        shutil.copyfile(samples / "model.onnx", folder / name)
    with np.load(samples / "evaluation.npz") as data:
        np.savez(folder / "data.npz", **{name: data[name][:40] for name in data.files})
    compared = ok.compare(folder / "old.onnx", [folder / "new.onnx"], data=folder / "data.npz", seconds=0.1, threads=1)
    elsewhere = compared.machine.model_copy(update={"cpu": "Another CPU", "cores_allowed": 64.0})
    (folder / "record.json").write_text(compared.model_copy(update={"machine": elsewhere}).to_json())
    return folder


class TestARecordOfAnotherMachine:
    @pytest.fixture
    def there(self, measured, tmp_path):
        folder = tmp_path / "there"
        shutil.copytree(measured, folder)
        text = (folder / "record.json").read_text()
        (folder / "record.json").write_text(text.replace(str(measured), str(folder)))
        return folder

    def gate(self, record, **limits):
        return ok.gate(record=record, **limits, seconds=0.1)

    def test_is_measured_anew_where_all_is_at_hand(self, there):
        found = self.gate(there / "record.json", max_p99=10, max_memory=10**10, max_drop=1)
        assert found.comparison.machine.cpu == fingerprint.fingerprint().cpu
        assert found.comparison.data.count == 40
        assert {row.options["intra_op_num_threads"] for row in found.comparison.rows} == {1}
        assert found.notes[0].level == "warning"
        assert "cpu: Another CPU there" in found.notes[0].text
        assert "measured anew" in found.notes[0].text

    def test_is_found_with_its_files_where_it_was_moved_to(self, there, tmp_path):
        moved = there.rename(tmp_path / "here")
        found = self.gate(moved / "record.json", max_memory=10**10)
        assert found.verdict == "pass"
        assert found.comparison.rows[1].model.path == str(moved / "new.onnx")

    @pytest.mark.parametrize(
        ("name", "limits", "says"),
        [("new.onnx", {"max_p99": 10}, "no such file"), ("data.npz", {"max_p99": 10, "max_drop": 1}, "no such file")],
    )
    def test_is_refused_where_a_figure_needs_what_is_missing(self, there, name, limits, says):
        (there / name).unlink()
        with pytest.raises(UsageError, match=f"{name}: {says}"):
            self.gate(there / "record.json", **limits)

    def test_is_refused_where_a_model_has_changed(self, there):
        proto = onnx.load(there / "new.onnx")
        proto.doc_string = "another"
        onnx.save(proto, there / "new.onnx")
        with pytest.raises(UsageError, match=r"new\.onnx: changed since it was recorded"):
            self.gate(there / "record.json", max_p99=10)

    def test_tells_ratios_where_its_data_has_changed(self, there):
        np.savez(there / "data.npz", x=np.zeros((4, 1, 28, 28), np.float32), labels=np.zeros(4, int))
        found = self.gate(there / "record.json", max_drop=1)
        assert found.comparison.machine.cpu == "Another CPU"
        assert "not measured anew" in found.notes[-1].text
        assert "data.npz: changed" in found.notes[-1].text

    def test_is_measured_without_its_data_where_no_rule_asks_for_quality(self, there):
        (there / "data.npz").unlink()
        found = self.gate(there / "record.json", max_p99=10)
        assert found.comparison.data is None
        assert found.verdict != "fail"

    def test_takes_its_data_from_elsewhere(self, there, tmp_path):
        data = (there / "data.npz").rename(tmp_path / "kept.npz")
        found = ok.gate(record=there / "record.json", max_memory=10**10, max_drop=1, data=data, seconds=0.1)
        assert found.comparison.data.path == str(data)

    def test_starts_no_code_that_it_names(self, there, tmp_path):
        compared = Comparison.model_validate_json((there / "record.json").read_text())
        run = run_of(compared, compared.rows[1].title, {"max_p99": 10, "max_drop": 1})
        recipe = run.recipe | {"data": {"path": f"{tmp_path / 'evil.py'}:feeds"}}
        (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        (there / "record.json").write_text(run.model_copy(update={"recipe": recipe}).to_json())
        with pytest.raises(UsageError, match="data made by code"):
            self.gate(there / "record.json")
        assert not (tmp_path / "ran").exists()

    def test_stands_for_its_model_as_a_baseline(self, there):
        newest = shutil.copyfile(there / "old.onnx", there / "newest.onnx")
        found = ok.gate(newest, baseline=there / "record.json", max_memory=10**10, seconds=0.1)
        assert (found.baseline, found.candidate) == ("new.onnx on onnxruntime", "newest.onnx on onnxruntime")
        assert found.comparison.machine.cpu == fingerprint.fingerprint().cpu
        assert {row.options["intra_op_num_threads"] for row in found.comparison.rows} == {1}
        assert "stands for new.onnx on onnxruntime, measured now" in found.notes[0].text
        assert found.notes[0].level == "info"

    def test_is_no_baseline_without_its_model(self, there):
        (there / "new.onnx").unlink()
        with pytest.raises(ModelError, match=r"a saved figure is no baseline, .*new\.onnx: no such file") as caught:
            ok.gate(there / "old.onnx", baseline=there / "record.json")
        assert "--baseline MODEL" in caught.value.hint


def test_a_record_of_several_candidates_is_no_baseline(tmp_path):
    path = saved(tmp_path, comparison(row("one", speedup=(2, 1.9, 2.1)), row("two", speedup=(1, 0.9, 1.1))))
    with pytest.raises(UsageError, match="compares 2 candidates and chose none"):
        ok.gate("model.onnx", baseline=path)


def test_json_that_is_no_record_is_no_baseline(tmp_path):
    (tmp_path / "vocabulary.json").write_text("{}")
    with pytest.raises(ModelError, match="not a saved comparison"):
        ok.gate("model.onnx", baseline=tmp_path / "vocabulary.json")


def test_a_record_has_its_own_baseline(tmp_path):
    with pytest.raises(UsageError, match="--record holds its own baseline"):
        ok.gate("new", baseline="model.onnx", record=saved(tmp_path, comparison(row("new", **GOOD))))


def test_several_candidates_need_a_name(tmp_path):
    path = saved(tmp_path, comparison(row("one", speedup=(2, 1.9, 2.1)), row("two", speedup=(1, 0.9, 1.1))))
    with pytest.raises(UsageError, match="which row"):
        ok.gate(record=path)
    assert ok.gate("one", record=path, min_speedup=1.5).verdict == "pass"


@pytest.mark.parametrize(
    ("loss", "options", "code"),
    [
        ((0.05, 0.03, 0.07), (), 3),
        ((0.0, -0.1, 0.1), (), 5),
        ((0.0, -0.1, 0.1), ("--inconclusive", "pass"), 0),
        ((0.0, -0.1, 0.1), ("--inconclusive", "fail"), 3),
    ],
)
def test_the_exit_code_is_the_verdict(loss, options, code, tmp_path, optkit):
    path = saved(tmp_path, comparison(row("new", speedup=(2.0, 1.9, 2.1), loss=loss)))
    assert optkit("gate", "--record", path, "--max-drop", "0.01", *options).returncode == code


def run_of(compared, chosen, gate=None):
    """A run's record with this comparison, and these rules in its recipe."""
    return Run(
        recipe={"model": {"path": "old"}} | ({} if gate is None else {"gate": gate}),
        recipe_path="recipe.yaml",
        optkit="0",
        started="2026-01-02T03:04:05Z",
        seconds=1.0,
        model=compared.rows[0].model,
        branches=[],
        comparison=compared,
        chosen=chosen,
        machine=compared.machine,
    )


GOOD = {"speedup": (2.0, 1.9, 2.1), "loss": (0.001, -0.004, 0.006)}


class TestARunsRecord:
    def test_is_judged_by_the_rules_of_its_recipe(self, tmp_path):
        path = saved(tmp_path, run_of(comparison(row("new", **GOOD)), "new on onnxruntime", {"min_speedup": 3}))
        assert [rule.rule for rule in ok.gate(record=path).rules] == ["min-speedup"]
        assert ok.gate(record=path).verdict == "fail"

    def test_has_a_rule_replaced_by_one_that_is_given(self, tmp_path):
        gate = {"min_speedup": 3, "max_drop": 0.01}
        path = saved(tmp_path, run_of(comparison(row("new", **GOOD)), "new on onnxruntime", gate))
        judged = ok.gate(record=path, min_speedup=1.5, max_size_ratio=1).rules
        assert {rule.rule: rule.limit for rule in judged} == {"min-speedup": 1.5, "max-drop": 0.01, "max-size-ratio": 1}

    def test_without_a_gate_must_not_be_worse(self, tmp_path):
        path = saved(tmp_path, run_of(comparison(row("new", **GOOD)), "new on onnxruntime"))
        assert [rule.rule for rule in ok.gate(record=path).rules] == ["max-slowdown", "max-drop"]

    def test_that_chose_the_baseline_is_judged_by_it(self, tmp_path):
        path = saved(tmp_path, run_of(comparison(row("new", **GOOD)), "old on onnxruntime", {"min_speedup": 1.2}))
        found = ok.gate(record=path)
        assert (found.candidate, found.verdict) == ("old on onnxruntime", "fail")

    def test_with_rules_that_mean_nothing_is_refused(self, tmp_path):
        path = saved(tmp_path, run_of(comparison(row("new", **GOOD)), "new on onnxruntime", {"min_speedup": "x"}))
        with pytest.raises(ModelError, match=r"recipe\.gate\.min_speedup"):
            ok.gate(record=path)


def test_files_for_ci_say_what_the_terminal_says(tmp_path, optkit):
    path = saved(tmp_path, comparison(row("new", speedup=(1.2, 1.1, 1.3), loss=(0.0, -0.1, 0.1))))
    page = tmp_path / "page.md"
    done = optkit(
        *("gate", "--record", path, "--max-drop", "0.01", "--min-speedup", "2", "--max-size-ratio", "1"),
        *("--junit", tmp_path / "gate.xml", "--summary", tmp_path / "gate.md"),
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(page),
    )
    (suite,) = JUnitXml.fromfile(str(tmp_path / "gate.xml"))
    endings = {case.name: [type(each) for each in case.result] for case in suite}
    assert endings == {"max-drop": [Skipped], "min-speedup": [Failure], "max-size-ratio": []}
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("optkit gate", 3, 1, 0, 1)
    limits = {case.name: case.result[0].message if case.result else case.system_out for case in suite}
    assert limits["min-speedup"] == "1.20x (1.10 to 1.30) as fast; at least 2.00x"
    assert limits["max-size-ratio"] == "100.0 % of the size; at most 100.0 %"
    assert {case.classname for case in suite} == {"new on onnxruntime"}
    assert (tmp_path / "gate.md").read_text() == page.read_text()
    assert "❌ fail" in page.read_text()
    assert "::error title=optkit gate%3A min-speedup::" in done.stderr
    assert "::warning title=optkit gate%3A max-drop::" in done.stderr


@pytest.fixture(scope="module")
def shuffled(samples, tmp_path_factory):
    """The sample with its last layer's weights in another order."""
    proto = onnx.load(samples / "model.onnx")
    gemm = next(node for node in proto.graph.node if node.op_type == "Gemm")
    tensor = next(each for each in proto.graph.initializer if each.name == gemm.input[1])
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(values, 1, axis=int(np.argmin(values.shape))), tensor.name))
    path = tmp_path_factory.mktemp("shuffled") / "shuffled.onnx"
    onnx.save(proto, path)
    return path


@pytest.mark.slow
def test_a_model_with_shuffled_weights_fails_on_quality(samples, shuffled, few):
    found = ok.gate(
        shuffled,
        baseline=samples / "model.onnx",
        data=few,
        max_drop=0.01,
        seconds=0.3,
        threads=1,
    )
    assert found.verdict == "fail"


@pytest.mark.slow
def test_a_too_small_evaluation_set_is_inconclusive(samples, tmp_path):
    data = np.load(samples / "evaluation.npz")
    np.savez(tmp_path / "few.npz", x=data["x"][:20], labels=data["labels"][:20])
    arguments = {"baseline": samples / "model.onnx", "max_drop": 0.01, "seconds": 0.3, "threads": 1}
    few, many = (
        ok.gate(samples / "model.onnx", data=path, **arguments)
        for path in (tmp_path / "few.npz", samples / "evaluation.npz")
    )
    assert (few.verdict, many.verdict) == ("inconclusive", "pass")


def test_a_gate_needs_two_models_or_a_record(optkit):
    done = optkit("gate", "model.onnx")
    assert done.returncode == 2
    assert "--baseline" in done.stderr


def test_what_cannot_be_written_is_refused_before_anything_is_measured(samples, tmp_path, optkit):
    (tmp_path / "folder").mkdir()
    done = optkit(
        *("gate", samples / "model.onnx", "--baseline", samples / "model.onnx", "--seconds", "1000"),
        *("--junit", tmp_path / "folder"),
    )
    assert done.returncode == 2
    assert "is a folder, and the result a file" in done.stderr


@pytest.mark.parametrize(
    ("limits", "tried_again"),
    [
        ({"max_drop": 0.01}, False),  # twenty samples show as little again
        ({"max_p99": 1.0}, True),  # half a second is too short for a p99
    ],
)
def test_an_inconclusive_gate_tries_again_where_more_time_may_tell(limits, tried_again, samples, tmp_path):
    with np.load(samples / "evaluation.npz") as data:
        np.savez(tmp_path / "few.npz", x=data["x"][:20], labels=data["labels"][:20])
    found = ok.gate(
        f"{samples / 'model.onnx'}@fake",
        baseline=f"{samples / 'model.onnx'}@fake",
        data=tmp_path / "few.npz",
        **limits,
        seconds=0.5,
        retry=True,
    )
    assert found.comparison.precision == pytest.approx(0.01 / 3 if tried_again else 0.01)
