"""What earlier versions of optkit wrote still opens, or is refused in one line that says what to do.

``saved/make.py`` says how the files came about. A folder beside it is what one version wrote.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import optkit as package
from optkit import lazy
from optkit.data.dataset import open_dataset
from optkit.errors import ModelError, OptkitError, OutputError, RecipeError, UsageError
from optkit.formats import opening
from optkit.reports.report import REPORTS
from optkit.runs import run_folder, saved, store
from optkit.runs.recipe import read_recipe
from optkit.runs.store import Store
from optkit.schemas import published
from optkit.search import journal
from optkit.targets import cuda

SETS = sorted(path for path in (Path(__file__).parents[1] / "saved").iterdir() if (path / "records").is_dir())
PLACE = "/tmp/example"
"""Where the files were made; absolute paths in them begin so."""
CODE = "net.py:build"
BUNDLES = [(each, bundle.name) for each in SETS for bundle in sorted((each / "bundles").iterdir())]
MODELS = [
    (each, model.name) for each in SETS for model in sorted((each / "models").iterdir()) if model.suffix != ".bin"
]
RECORDS = [(each, record.name) for each in SETS for record in sorted((each / "records").iterdir())]
RECIPES = [(each, path.name) for each in SETS for path in sorted((each / "recipes").iterdir())]
RUNS = [(each, name) for each in SETS for name in ("runs/gated", "runs/both", "runs/trained", "searches/best-search")]


def named(values):
    return {"argvalues": values, "ids": [f"{each.name}-{name}" for each, name in values]}


def moved(kept, folder, monkeypatch):
    """The files in a place of their own, which is the current folder, with its store."""
    place = folder / "example"
    shutil.copytree(kept, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPTKIT_CACHE", str(place / "cache"))
    return place


@pytest.fixture(params=SETS, ids=lambda path: path.name)
def example(request, tmp_path, monkeypatch):
    """All that one version wrote."""
    return moved(request.param, tmp_path, monkeypatch)


def here(file):
    """Let the absolute paths in a file of text begin where the files lie now."""
    file.write_text(file.read_text().replace(PLACE, str(Path.cwd())))
    return file


def changed(file, **values):
    """Put other values into a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return file


def needs(name):
    """Skip where a library that a file needs is not installed."""
    for word, library in (("openvino", "openvino"), (".xml", "openvino"), ("text", "tokenizers")):
        if word in name and not lazy.available(library):
            pytest.skip(f"needs {library}")


def logits(model, feed):
    with package.load(model) as session:
        return session.run(feed)["logits"]


@pytest.mark.parametrize(("kept", "name"), **named(BUNDLES))
def test_a_bundle_runs(kept, name, tmp_path, monkeypatch):
    needs(name)
    place = moved(kept, tmp_path, monkeypatch)
    if name == "tensorrt":  # its engine is for a GPU of capability 8.9
        assert [spec.name for spec in package.inspect("bundles/tensorrt").model.signature.inputs] == ["ids", "mask"]
        if cuda.available() is None:
            pytest.skip("there is a GPU, and it may be one of these")
        with pytest.raises(OptkitError) as caught:
            package.load("bundles/tensorrt")
        assert caught.value.exit_code == 4
        return
    with np.load("data.npz") as data:
        feed = {"x": data["x"][:1]}
    found = logits(f"bundles/{name}", feed)
    assert found.shape == (1, 3)
    if name != "fake":
        tolerance = 0.2 if "int8" in name else 0.02
        np.testing.assert_allclose(found, logits(place / "models" / "model.onnx", feed), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("kept", "name"), **named(BUNDLES))
def test_a_bundle_of_a_later_format_or_with_other_files_is_refused_in_one_line(kept, name, tmp_path, monkeypatch):
    place = moved(kept, tmp_path, monkeypatch) / "bundles" / name
    file = place / json.loads((place / "manifest.json").read_text())["model"]
    file.write_bytes(file.read_bytes() + b" ")
    refused(ModelError, "its digest differs", lambda: package.load(place), hint="make it again: optkit compile")
    changed(place / "manifest.json", schema="optkit.bundle/2")
    refused(ModelError, "optkit.bundle/1", lambda: package.load(place), hint="make it again: optkit compile")


def refused(kind, words, call, *, hint=None):
    with pytest.raises(kind) as caught:
        call()
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    if hint:
        assert hint in caught.value.hint


@pytest.mark.parametrize(("kept", "name"), **named(MODELS))
def test_a_model_opens(kept, name, tmp_path, monkeypatch):
    moved(kept, tmp_path, monkeypatch)
    code = CODE if name.endswith((".pth", ".safetensors")) else None
    if code and not lazy.available("torch"):
        pytest.skip("needs torch")
    needs(name)
    code = "net.py:small" if name.startswith("student") else code
    inputs = ["x:float32[batch,1,8,8]"] if name.endswith(".pth") else []
    found = package.inspect(f"models/{name}", code=code, inputs=tuple(inputs))
    wanted = ["ids", "mask"] if name in ("text.onnx", "dynamic.onnx", "four.onnx") else ["x"]
    assert [spec.name for spec in found.model.signature.inputs] == wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pruned", "student"])
def test_what_training_wrote_runs(example, name):
    pytest.importorskip("torch")
    code = "net.py:small" if name == "student" else CODE
    found = package.evaluate(f"models/{name}.safetensors", data="data.npz", code=code)
    assert found.row.quality.metric == "accuracy"


@pytest.mark.parametrize(("kept", "name"), **named(RECORDS))
def test_a_record_is_read_whole(kept, name):
    text = (kept / "records" / name).read_text()
    document = json.loads(text)
    kind = published.RECORDS[document["schema"].partition("/")[0].removeprefix("optkit.")]
    again = json.loads(kind.model_validate_json(text).to_json())
    assert _without_new_fields(again, document) == document


def _without_new_fields(new, old):
    """``new`` with the fields that ``old`` has: a later version may add some."""
    if isinstance(new, dict) and isinstance(old, dict):
        return {key: _without_new_fields(new[key], old[key]) for key in new if key in old}
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return [_without_new_fields(one, other) for one, other in zip(new, old, strict=True)]
    return new


@pytest.mark.parametrize("form", REPORTS)
@pytest.mark.parametrize(("kept", "name"), **named(RUNS))
def test_a_run_is_reported(kept, name, form):
    assert package.report(kept / name, format=form)


@pytest.mark.parametrize(("kept", "name"), **named(RUNS))
def test_a_run_is_judged_by_its_record_alone(kept, name, tmp_path):
    if json.loads((kept / name / "record.json").read_text())["comparison"] is None:
        pytest.skip("compared nothing")
    record = shutil.copy(kept / name / "record.json", tmp_path)
    if name == "runs/gated":  # its recipe's rules are about times and bytes
        refused(UsageError, "cannot be measured anew here", lambda: package.gate(record=record), hint="judge ratios")
        return
    found = package.gate(record=record, max_drop=0.9)
    assert found.verdict in ("pass", "inconclusive", "fail")
    assert any("not measured anew" in note.text for note in found.notes)


def test_a_saved_comparison_is_measured_anew(example):
    found = package.gate(record="records/compare-fake.json", max_drop=0.9, seconds=0.2)
    assert found.verdict == "pass"
    assert any("measured anew, here" in note.text for note in found.notes)


def test_a_saved_comparison_stands_for_its_model_as_a_baseline(example):
    found = package.gate(
        "models/half.onnx@fake", baseline="records/compare-fake.json", data="data.npz",
        max_drop=0.9, seconds=0.2,
    )  # fmt: skip
    assert found.baseline == "static.onnx on fake"
    assert any("a saved figure is no baseline" in note.text for note in found.notes)


def test_a_record_of_a_later_format_is_refused_in_one_line(example):
    compared = changed(example / "records" / "compare.json", schema="optkit.comparison/2")
    refused(ModelError, "optkit.comparison/1", lambda: saved.read(compared), hint="optkit compare --json")
    run = changed(example / "runs" / "both" / "record.json", schema="optkit.run/2")
    refused(ModelError, "optkit.run/1", lambda: package.report(run), hint="optkit run")
    refused(ModelError, "optkit.run/1", lambda: saved.read(run.parent), hint="optkit run")


@pytest.mark.parametrize(("kept", "name"), **named(RECIPES))
def test_a_recipe_can_be_planned(kept, name, tmp_path, monkeypatch):
    moved(kept, tmp_path, monkeypatch)
    plan = package.plan(f"recipes/{name}")
    assert plan.branches


def test_the_recipe_beside_a_result_can_be_carried_out(example):
    for name in ("runs/gated", "runs/both", "runs/trained", "runs/killed", "searches/best-search"):
        assert package.plan(here(example / name / "recipe.yaml")).branches, name


def test_a_recipe_with_a_key_of_a_later_version_is_refused_with_its_line(example):
    file = example / "recipes" / "shortest.yaml"
    file.write_text(file.read_text() + "deployment: {}\n")
    refused(RecipeError, "shortest.yaml:2: unknown key 'deployment'", lambda: package.plan(file), hint="known: ")


def test_a_finished_run_is_not_replaced_unasked_and_is_by_force(example):
    wanted = read_recipe(here(example / "runs" / "both" / "recipe.yaml"))
    folder = example / "runs" / "both"
    refused(OutputError, "exists already", lambda: run_folder.prepare(folder, wanted), hint="--force")
    run_folder.prepare(folder, wanted, force=True)
    assert [path.name for path in folder.iterdir()] == ["recipe.yaml"]


def test_a_killed_run_goes_on(example):
    folder = example / "runs" / "killed"
    refused(UsageError, "record.json: no such file", lambda: package.report(folder), hint="go on: optkit run")
    run_folder.prepare(folder, read_recipe(here(folder / "recipe.yaml")))


def test_a_finished_search_is_not_replaced_unasked(example):
    again = {"data": "data.npz", "max_drop": 0.3}
    refused(
        OutputError, "exists already", lambda: package.optimize("models/model.onnx", "searches/best", **again),
        hint="--force",
    )  # fmt: skip


def test_the_journal_of_a_killed_search_is_read_where_nothing_else_changed(example, monkeypatch):
    path = example / "searches" / "killed-search" / "trials.jsonl"
    head, *lines = path.read_text().splitlines()
    assert journal.Journal(path, {"version": "another"}).resumed == 0
    monkeypatch.setattr(journal, "digest", lambda content: head)
    found = journal.Journal(path, {})
    assert found.resumed == len(lines)
    for line in lines:
        assert found.trial(json.loads(line)["key"]).row.status == "ok"


def test_the_store_lists_all_entries_and_serves_them(example):
    listed = package.cache().entries
    assert {entry.stage for entry in listed} >= {"export", "fuse", "prune", "distill", "quantize", "compile"}
    assert len(listed) == len(list((example / "cache" / "entries").iterdir()))
    source = opening.open("models/model.onnx")
    for entry in listed:
        found = Store().get(entry.key, source)
        assert found is not None
        assert found.model.path.is_file()


def test_an_entry_of_a_later_format_or_with_other_files_counts_as_absent(example):
    source = opening.open("models/model.onnx")
    one, other = (entry.key for entry in package.cache().entries[:2])
    changed(example / "cache" / "entries" / one / "record.json", schema="optkit.store/2")
    shutil.rmtree(example / "cache" / "entries" / other)
    assert Store().get(one, source) is None
    assert Store().get(other, source) is None
    package.cache("prune", all=True)
    assert not list((example / "cache" / "entries").iterdir())


def test_a_stage_is_taken_from_the_store(example, monkeypatch):
    key = next(entry.key for entry in package.cache().entries if entry.stage == "export")
    others = store.key
    monkeypatch.setattr(store, "key", lambda stage, *rest: key if stage.name == "export" else others(stage, *rest))
    found = package.plan("recipes/all-keys.yaml")
    assert [stage.cached for stage in found.branches[0].stages if stage.stage == "export"] == [True]


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(example, monkeypatch):
    pytest.importorskip("torch")
    (folder,) = (example / "cache" / "checkpoints").iterdir()
    monkeypatch.setattr(store, "key", lambda *_: folder.name)
    done = package.quantize(
        "models/weights.pth", "aware.onnx", code=CODE, inputs=("x:float32[batch,1,8,8]",), precision="int8",
        method="qat", data="data.npz", train_data="calibration.npz", learning_rate=0.001, batch_size=16, epochs=1,
        measure=False,
    )  # fmt: skip
    assert done.stage.facts["training"][0]["resumed"] > 1


@pytest.mark.parametrize("name", ["data.npz", "feeds", "photos.yaml", "texts.yaml", "feeds.py:feeds"])
def test_data_are_read(example, name):
    needs(name)
    inputs = opening.open(f"models/{'text' if name == 'texts.yaml' else 'model'}.onnx").signature.inputs
    found = open_dataset(name, inputs)
    found.check(inputs)
    assert found.labelled
    compared = json.loads((example / "records" / "compare.json").read_text())
    if name == "data.npz":
        assert found.digest == compared["data"]["digest"]


@pytest.mark.parametrize("verb", ["report", "gate"])
def test_what_is_no_record_is_refused_in_one_line(example, verb, optkit):
    arguments = ("report", "data.npz") if verb == "report" else ("gate", "--record", "recipes/both.yaml")
    done = optkit(*arguments, cwd=example)
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 2
    assert done.stderr.startswith("error: ")
