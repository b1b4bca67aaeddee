"""Recipes carried out: real stages on a real model, through the store, into a run's folder."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

import optkit as api
from optkit.cli.tables.gate import exit_code
from optkit.decisions import choice
from optkit.errors import DataError, MetricError, ModelError, OutputError, UsageError
from optkit.formats import bundle_manifest
from optkit.records.comparison import Comparison, QualityRecord, Row
from optkit.records.model import ModelRecord
from optkit.records.record import Interval
from optkit.records.run import Plan, Run
from optkit.runs import pipeline, run_folder
from optkit.runs.chain import chain_notes
from optkit.runs.recipe import read_recipe
from optkit.schemas import published
from optkit.verbs.cache import cache
from optkit.verbs.plan import plan
from optkit.verbs.report import report
from optkit.verbs.run import run

TARGETS = ["onnxruntime", "openvino"]

ONNXRUNTIME_ONLY = {"quantize": {"method": "dynamic"}}
"""A stage that one of two targets refuses, on any CPU."""


@pytest.fixture(scope="module")
def workplace(samples, tmp_path_factory):
    """A folder with a little data, and a function that writes a recipe there."""
    folder = tmp_path_factory.mktemp("workplace")
    with np.load(samples / "evaluation.npz") as data:
        np.savez(folder / "data.npz", **{name: data[name][:80] for name in data.files})

    numbers = count()

    def write(name=None, **changes):
        name = name or f"recipe-{next(numbers)}.yaml"  # no test may meet another's recipe
        content = {
            "model": str(samples / "model.onnx"),
            "data": "data.npz",
            "calibration_samples": 20,
            "targets": TARGETS,
            "stages": [{"quantize": {"method": "weight-only"}}],
            "benchmark": {"seconds": 0.2, "threads": 1},
        }
        (folder / name).write_text(yaml.safe_dump(content | changes))
        return folder / name

    return write


@pytest.fixture(scope="module")
def done(workplace, tmp_path_factory):
    """One run on both targets: its recipe, its folder, its record, and its store."""
    store, folder, recipe = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("runs") / "first", workplace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTKIT_CACHE", str(store))
        return recipe, folder, run(recipe, output=folder), store


@pytest.fixture
def same_store(done, monkeypatch):
    monkeypatch.setenv("OPTKIT_CACHE", str(done[3]))


def digests(record):
    return [stage.result.digest for branch in record.branches for stage in branch.stages]


class TestARun:
    def test_holds_bundles_record_reports_and_its_recipe(self, done):
        _, folder, record, _ = done
        assert {path.name for path in folder.iterdir()} >= {
            "bundles",
            "record.json",
            "recipe.yaml",
            "report.html",
            "report.md",
        }
        assert not list(folder.rglob(".*"))
        assert run_folder.read(folder) == record

    def test_has_a_record_that_fits_the_published_schema(self, done):
        schema = json.loads((published.FOLDER / "run.schema.json").read_text())
        jsonschema.validate(json.loads((done[1] / "record.json").read_text()), schema)

    def test_compares_what_came_in_with_every_result(self, done):
        rows = done[2].comparison.rows
        assert [row.title for row in rows] == [
            "model.onnx on onnxruntime",
            "int8 on onnxruntime",
            "int8 on openvino",
            "float on openvino",
        ]
        assert all(row.status == "ok" and row.latency and row.quality for row in rows)
        assert rows[0].baseline

    def test_says_which_samples_calibrated_and_which_evaluated(self, done):
        record = done[2]
        assert (record.calibration.count, record.evaluation.count) == (20, 60)
        assert record.calibration.digest != record.evaluation.digest

    def test_has_a_bundle_for_each_target_that_runs_alone(self, done):
        for branch in done[2].branches:
            with api.load(done[1] / branch.bundle) as session:
                outputs = session.run({"x": np.zeros((2, 1, 28, 28), np.float32)})
            assert next(iter(outputs.values())).shape == (2, 10)

    def test_writes_into_each_bundle_what_was_measured_of_it(self, done):
        _, folder, record, _ = done
        for branch, row in zip(record.branches, record.comparison.rows[1:3], strict=True):
            found = bundle_manifest.read(folder / branch.bundle)
            assert found.quality == row.quality
            assert found.speedup.ratio == row.speedup.value
            assert found.speedup.baseline == "model.onnx on onnxruntime"
            assert [stage["stage"] for stage in found.made_by.stages] == ["quantize", "compile"]

    def test_links_the_chosen_bundle(self, done):
        _, folder, record, _ = done
        assert not (folder / "bundle").readlink().is_absolute()
        assert bundle_manifest.read(folder / "bundle").target == record.chosen.split(" on ")[1]

    def test_notes_what_was_added_to_the_stages(self, done):
        assert "compile was added to the stages, so that there is a bundle" in [note.text for note in done[2].notes]

    def test_ships_the_threads_that_it_measured_with(self, done):
        options = bundle_manifest.read(done[1] / "bundles" / "onnxruntime").options
        assert options["intra_op_num_threads"] == 1

    def test_again_computes_nothing_twice_and_ends_the_same(self, done, same_store, tmp_path):
        recipe, _, first, _ = done
        again = run(recipe, output=tmp_path / "again")
        assert all(stage.cached for branch in again.branches for stage in branch.stages)
        assert not any(stage.cached for branch in first.branches for stage in branch.stages)
        assert digests(again) == digests(first)
        assert again.comparison.seconds > 0

    def test_from_its_own_copy_of_the_recipe_is_the_same_run(self, done, same_store, tmp_path):
        copy = done[1] / "recipe.yaml"
        assert all(step.cached for branch in plan(copy).branches for step in branch.stages)
        assert "made explicit" in copy.read_text()

    def test_in_another_store_ends_with_the_same_digests(self, done, tmp_path):
        again = run(done[0], output=tmp_path / "again", settings=["benchmark.seconds=0.1"])
        assert not any(stage.cached for branch in again.branches for stage in branch.stages)
        assert digests(again) == digests(done[2])


class TestAPlan:
    def test_names_all_stages_and_runs_none(self, workplace):
        found = plan(workplace())
        assert [(branch.name, branch.target) for branch in found.branches] == [
            ("int8", "onnxruntime"),
            ("int8", "openvino"),
            ("float", "openvino"),
        ]
        assert [[step.stage for step in branch.stages] for branch in found.branches] == [
            ["quantize", "compile"],
            ["quantize", "compile"],
            ["compile"],
        ]
        assert found.branches[0].stages[0].cached is False
        assert found.branches[0].stages[1].cached is None
        assert cache().entries == []

    def test_knows_what_is_in_the_store(self, done, same_store):
        found = plan(done[0])
        assert all(step.cached for branch in found.branches for step in branch.stages)
        changed = plan(done[0], settings=["stages.0.quantize.per_channel=false"])
        assert [step.cached for step in changed.branches[0].stages] == [False, None]

    def test_finds_refusals_early(self, workplace):
        found = plan(workplace(stages=[ONNXRUNTIME_ONLY]))
        assert found.branches[0].stages[0].refused is None
        assert "no method 'dynamic'" in found.branches[1].stages[0].refused

    def test_shows_as_a_table_and_as_json(self, cli, workplace):
        shown = cli("plan", workplace())
        assert shown.exit_code == 0
        assert "quantize int8" in shown.stdout
        assert "method: weight-only" in shown.stdout
        assert Plan.model_validate_json(cli("plan", workplace(), "--json").stdout).branches


class TestABranchThatFails:
    def test_says_why_and_others_go_on(self, cli, workplace, tmp_path):
        recipe = workplace("dynamic.yaml", stages=[ONNXRUNTIME_ONLY])
        shown = cli("run", recipe, "-o", tmp_path / "run", "--set", "benchmark.seconds=0.1")
        assert shown.exit_code == 1
        record = run_folder.read(tmp_path / "run")
        assert [branch.status for branch in record.branches] == ["ok", "failed"]
        assert "no method 'dynamic'" in record.branches[1].reason
        failed = next(row for row in record.comparison.rows if row.status == "failed")
        assert failed.reason == record.branches[1].reason
        assert "openvino failed: " in shown.stdout
        assert "no method 'dynamic'" in report(tmp_path / "run", format="csv")

    def test_is_the_runs_error_where_none_is_left(self, workplace, tmp_path):
        recipe = workplace("bf16.yaml", stages=[{"quantize": {"precision": "bf16"}}], targets=["onnxruntime"])
        with pytest.raises(UsageError, match="bf16"):
            run(recipe, output=tmp_path / "run")
        assert not (tmp_path / "run" / "record.json").exists()


def test_a_run_of_another_machine_is_measured_anew_on_the_samples_that_it_split_off(done, tmp_path):
    shutil.copytree(done[1], tmp_path / "moved", symlinks=True)
    record = done[2].model_copy(update={"chosen": "int8 on openvino"})
    elsewhere = record.comparison.machine.model_copy(update={"cpu": "Another CPU"})
    compared = record.comparison.model_copy(update={"machine": elsewhere})
    record = record.model_copy(update={"comparison": compared})
    (tmp_path / "moved" / "record.json").write_text(record.to_json())
    found = api.gate(record=tmp_path / "moved", max_memory=10**10, max_drop=1, seconds=0.1)
    assert found.verdict == "pass"
    assert found.comparison.data == record.evaluation
    assert [row.title for row in found.comparison.rows] == ["model.onnx on onnxruntime", "int8 on openvino"]


class TestAGate:
    def run(self, cli, workplace, folder, **gate):
        recipe = workplace(targets=["onnxruntime"], benchmark={"seconds": 0.1, "threads": 1}, gate=gate)
        return cli("run", recipe, "-o", folder)

    def test_that_passes_ends_with_0_and_is_kept_in_the_record(self, cli, workplace, tmp_path):
        shown = self.run(cli, workplace, tmp_path / "run", max_size_ratio=1.0)
        judged = run_folder.read(tmp_path / "run").gate
        assert shown.exit_code == 0
        assert (judged.verdict, [rule.rule for rule in judged.rules]) == ("pass", ["max-size-ratio"])
        assert judged.rules[0].reason in " ".join(shown.stdout.split())

    def test_that_fails_ends_with_3_and_leaves_everything(self, cli, workplace, tmp_path):
        folder = tmp_path / "run"
        assert self.run(cli, workplace, folder, min_speedup=1000).exit_code == 3
        record = run_folder.read(folder)
        assert record.gate.verdict == "fail"
        assert (folder / "bundle" / "manifest.json").is_file()
        for name in ("report.md", "report.html"):
            assert record.gate.rules[0].reason in (folder / name).read_text()
        assert api.gate(record=folder).rules == record.gate.rules

    def test_is_announced_where_github_runs_it(self, cli, workplace, tmp_path, monkeypatch):
        page = tmp_path / "page.md"
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        shown = self.run(cli, workplace, tmp_path / "run", max_size_ratio=0.001)
        assert "::error title=optkit gate%3A max-size-ratio::" in shown.stderr
        assert "| max-size-ratio | ❌ fail |" in page.read_text()

    def test_of_a_run_with_a_failed_branch_ends_with_1(self, cli, workplace, tmp_path):
        speed = {"seconds": 0.1, "threads": 1}
        recipe = workplace(stages=[ONNXRUNTIME_ONLY], benchmark=speed, gate={"max_size_ratio": 2})
        assert cli("run", recipe, "-o", tmp_path / "run").exit_code == 1
        assert run_folder.read(tmp_path / "run").gate.verdict == "pass"


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 3), ("inconclusive", 5)])
def test_the_exit_code_tells_the_verdict(verdict, code):
    assert exit_code(verdict) == code


class TestTheFolder:
    def test_of_a_finished_run_is_not_replaced_unasked(self, done):
        with pytest.raises(OutputError, match="exists already"):
            run(done[0], output=done[1])

    def test_of_an_unfinished_run_is_gone_on_with(self, done, same_store, tmp_path):
        recipe, folder = read_recipe(done[0]), tmp_path / "run"
        run_folder.prepare(folder, recipe)
        (folder / ".optkit-leftover").mkdir()
        (folder / "bundles" / ".optkit-leftover").mkdir(parents=True)
        run_folder.prepare(folder, recipe)
        assert not list(folder.rglob(".optkit-*"))

    def test_of_an_unfinished_run_of_another_recipe_is_not(self, cli, done, workplace, tmp_path):
        run_folder.prepare(tmp_path / "run", read_recipe(done[0]))
        with pytest.raises(OutputError, match="exists already"):
            run_folder.prepare(tmp_path / "run", read_recipe(done[0], ["seed=5"]))

    def test_is_replaced_by_force_only_if_it_is_a_runs(self, done, tmp_path):
        recipe = read_recipe(done[0])
        run_folder.prepare(tmp_path / "run", recipe)
        (tmp_path / "run" / "record.json").write_text("{}")
        run_folder.prepare(tmp_path / "run", recipe, force=True)
        assert not (tmp_path / "run" / "record.json").exists()
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.png").write_text("")
        with pytest.raises(OutputError, match="not the folder of a run"):
            run_folder.prepare(tmp_path / "photos", recipe, force=True)
        assert (tmp_path / "photos" / "a.png").exists()

    def test_that_cannot_be_made_is_one_line(self, done, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            run_folder.prepare(tmp_path / "file" / "run", read_recipe(done[0]))

    def test_is_named_after_the_recipe_and_the_time(self):
        assert run_folder.default("recipes/cnn.yaml").parent == Path("runs")
        assert run_folder.default("recipes/cnn.yaml").name.startswith("cnn-2")


class TestTheCommands:
    def test_run_answers_with_one_json_document(self, cli, done, same_store, tmp_path):
        shown = cli("run", done[0], "-o", tmp_path / "run", "--set", "benchmark.seconds=0.1", "--json")
        assert shown.exit_code == 0
        assert Run.model_validate_json(shown.stdout).chosen

    def test_run_shows_stages_comparison_and_places(self, cli, done, same_store, tmp_path):
        shown = cli("run", done[0], "-o", tmp_path / "run", "--set", "benchmark.seconds=0.1").stdout
        for text in ("quantize int8", "from the store", "speed-up (95 %)", "accuracy", "report.html", "bundle: "):
            assert text in shown

    @pytest.mark.parametrize(("format", "start"), [("markdown", "# "), ("html", "<!DOCTYPE"), ("csv", "model,target")])
    def test_report_prints_a_format(self, cli, done, format, start):
        assert cli("report", done[1], "--format", format).stdout.startswith(start)

    def test_report_writes_a_file_and_replaces_none_unasked(self, cli, done, tmp_path):
        for _ in range(2):
            shown = cli("report", done[1], "--format", "html", "-o", tmp_path / "r.html")
        assert (shown.exit_code, (tmp_path / "r.html").read_text()) == (2, (done[1] / "report.html").read_text())

    def test_report_names_the_formats(self, cli, done):
        shown = cli("report", done[1], "--format", "htm")
        assert shown.exit_code == 2
        assert "did you mean 'html'?" in shown.stderr

    def test_report_says_how_to_go_on_with_an_unfinished_run(self, done, tmp_path):
        run_folder.prepare(tmp_path / "run", read_recipe(done[0]))
        with pytest.raises(UsageError, match="no such file") as caught:
            report(tmp_path / "run")
        assert "optkit run" in caught.value.hint

    def test_report_refuses_what_is_no_record(self, tmp_path):
        (tmp_path / "record.json").write_text('{"schema": "optkit.run/9"}')
        with pytest.raises(ModelError, match="not the record of a run"):
            report(tmp_path)

    def test_cache_lists_and_prunes(self, cli, done, monkeypatch, tmp_path):
        run(done[0], output=tmp_path / "run", settings=["benchmark.seconds=0.1", "targets=[onnxruntime]"])
        listed = cli("cache", "list").stdout
        assert "quantize" in listed
        assert "compile" in listed
        pruned = json.loads(cli("cache", "prune", "--all", "--json").stdout)
        assert (len(pruned["removed"]), pruned["entries"]) == (2, [])

    @pytest.mark.parametrize("arguments", [["prune"], ["list", "--all"], ["prnue"]])
    def test_cache_says_what_it_takes(self, cli, arguments):
        assert cli("cache", *arguments).exit_code == 2


class TestData:
    def test_that_calibrates_and_evaluates_is_refused(self, cli, workplace, tmp_path):
        with pytest.raises(DataError, match="share"):
            run(workplace("shared.yaml", calibration="data.npz"), output=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_is_all_evaluated_where_nothing_calibrates(self, cli, workplace):
        found = plan(workplace("plain.yaml", stages=[]))
        assert found.calibration is None
        assert found.evaluation.count == 80

    def test_without_labels_cannot_feed_a_metric_that_needs_them(self, cli, workplace, tmp_path):
        np.savez(tmp_path / "inputs.npz", x=np.zeros((10, 1, 28, 28), np.float32) + np.arange(10)[:, None, None, None])
        recipe = workplace("inputs.yaml", data=str(tmp_path / "inputs.npz"), metric="accuracy", targets=["onnxruntime"])
        with pytest.raises((MetricError, DataError)):
            run(recipe, output=tmp_path / "run")


def test_a_torch_model_is_exported_on_the_way(samples, workplace):
    recipe = read_recipe(workplace("torch.yaml", model=str(samples / "traced.pt")))
    prepared = pipeline.prepare(recipe)
    assert prepared.baseline.target == "torch"
    assert [[stage.name for stage in chain.stages] for chain in prepared.chains] == [
        ["export", "quantize", "compile"],
        ["export", "quantize", "compile"],
        ["export", "compile"],
        ["export", "compile"],
    ]
    assert any("export was added" in note.text for note in chain_notes(recipe, prepared.model))


class TestTheChoice:
    def row(self, name, speedup=None, verdict=None, size=100, loss=None, needs_labels=True, width=0.01):
        around = None if speedup is None else Interval(value=speedup, low=speedup - width, high=speedup + width)
        quality = QualityRecord(
            metric="accuracy" if needs_labels else "cosine",
            value=Interval(value=0.9, low=0.9, high=0.9),
            count=100,
            higher_is_better=True,
            needs_labels=needs_labels,
            loss=None if loss is None else Interval(value=loss, low=loss - 0.01, high=loss + 0.01),
        )
        return Row(
            name=name,
            target="fake",
            model=ModelRecord(path=name, format="onnx", digest="0", size_bytes=size),
            baseline=speedup is None,
            speedup=around,
            speed_verdict=verdict,
            quality=quality if loss is not None else None,
        )

    def chosen(self, done, *rows, max_drop=None):
        first = self.row("first")
        comparison = Comparison(
            rows=[first, *rows], batch=1, rounds=9, max_drop=max_drop, machine=done[2].machine, seconds=1.0
        )
        best, notes = choice.choose(comparison)
        return best.name, [note.text for note in notes]

    def test_is_the_fastest_inside_the_bound(self, done):
        rows = self.row("good", 2.0, "faster", loss=0.01), self.row("wrong", 3.0, "faster", loss=0.2)
        name, notes = self.chosen(done, *rows, max_drop=0.02)
        assert name == "good"
        assert notes == [
            "not chosen, 3.00x faster (95 %: 2.99 to 3.01): a loss of 0.2000 in accuracy is beyond max_drop 0.02"
        ]

    def test_is_the_baseline_where_nothing_beats_it(self, done):
        rows = self.row("slow", 0.5, "slower", loss=0.0), self.row("unclear", 1.1, "inconclusive", loss=0.0)
        assert self.chosen(done, *rows)[0] == "first"

    def test_is_never_a_failed_row(self, done):
        failed = self.row("failed", 3.0, "faster", loss=0.0).model_copy(update={"status": "failed"})
        assert self.chosen(done, failed)[0] == "first"

    def test_is_smaller_at_no_difference_in_speed(self, done):
        assert self.chosen(done, self.row("small", 1.0, "no difference", size=50, loss=0.0))[0] == "small"
        assert self.chosen(done, self.row("same", 1.0, "no difference", loss=0.0))[0] == "first"

    def test_is_the_smallest_of_those_that_are_equally_fast(self, done):
        rows = self.row("big", 2.01, "faster", loss=0.0), self.row("small", 2.0, "faster", size=50, loss=0.0)
        assert self.chosen(done, *rows)[0] == "small"

    def test_is_the_fastest_where_wide_intervals_hide_a_difference(self, done):
        wide = Interval(value=2.0, low=1.7, high=2.3)
        big = self.row("big", 2.0, "faster", loss=0.0).model_copy(update={"speedup": wide})
        rows = big, self.row("small", 1.9, "faster", size=50, loss=0.0)
        assert self.chosen(done, *rows)[0] == "big"

    def test_needs_a_loss_that_may_be_nothing_where_no_bound_is_given(self, done):
        rows = self.row("unclear", 2.0, "faster", loss=0.009), self.row("worse", 3.0, "faster", loss=0.02)
        assert self.chosen(done, *rows)[0] == "unclear"

    def test_needs_a_fidelity_of_a_hundredth_where_no_bound_is_given(self, done):
        near = self.row("near", 2.0, "faster", loss=0.002, needs_labels=False)
        far = self.row("far", 3.0, "faster", loss=0.2, needs_labels=False)
        assert self.chosen(done, near, far)[0] == "near"

    def test_by_speed_alone_says_so(self, done):
        name, notes = self.chosen(done, self.row("fast", 2.0, "faster"))
        assert name == "fast"
        assert notes == ["chosen by its speed alone: without data its quality is unknown"]


DRIVER = """
import sys
from pathlib import Path
from optkit.runs import pipeline, recipe
path, folder = sys.argv[1:]
def progress(what, done, total):
    print(what, flush=True)
pipeline.run(recipe.read_recipe(path), path, Path(folder), progress=progress)
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_of_a_stage_goes_on_and_ends_the_same(samples, workplace, tmp_path):
    """One run, killed twice in each stage: each kill leaves what the next has to go on with."""
    recipe = workplace(
        "killed.yaml",
        model=str(samples / "traced.pt"),
        stages=["export", {"quantize": {"precision": "int8"}}, "compile"],
        benchmark={"seconds": 0.1, "threads": 1},
        targets=["openvino"],
    )
    undisturbed = run(recipe, output=tmp_path / "undisturbed")
    stages = undisturbed.branches[0].stages
    store, folder = tmp_path / "store", tmp_path / "killed"
    environment = os.environ | {"OPTKIT_CACHE": str(store)}
    draw = random.Random(0)
    for number, stage in enumerate(stages):
        for half in range(2):  # benchmarks/kill.py does it more often
            before = {path.name for path in store.glob("entries/*")}
            delay = draw.uniform(0.55 * half, 0.55 * (half + 1)) * stage.seconds
            _killed([recipe, folder], f": {stage.stage}", delay, environment)
            assert before <= {path.name for path in store.glob("entries/*")}
            assert all((store / "entries" / finished.key / "record.json").is_file() for finished in stages[:number])
            assert not (folder / "record.json").exists()
            for again in stages[number:]:
                _forget(store / "entries" / again.key)
    subprocess.run(
        [sys.executable, "-c", DRIVER, recipe, folder], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    final = run_folder.read(folder)
    assert digests(final) == digests(undisturbed)
    *earlier, last = final.branches[0].stages
    assert all(each.cached for each in earlier)
    assert not last.cached
    assert list((store / "tmp").iterdir()) == []
    found, wanted = (
        bundle_manifest.read(each / "bundles" / "openvino").digests for each in (folder, tmp_path / "undisturbed")
    )
    assert found == wanted


def _killed(arguments, line, delay, environment):
    """Run until ``line`` is said, and kill ``delay`` seconds later."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        for said in child.stdout:
            if line in said:
                break
        time.sleep(delay)
        child.kill()


def _forget(entry):
    """Make the next run do this stage again."""
    (entry / "record.json").unlink(missing_ok=True)
