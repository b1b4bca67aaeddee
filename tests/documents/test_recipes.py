"""The committed recipes, and a run from beginning to end."""

import json
import re
import shutil
from pathlib import Path

import pytest

import optkit
from optkit.system import fingerprint

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / "sample_models" / "fetched"
RECIPES = [
    pytest.param(
        path,
        id=path.stem,
        marks=[
            pytest.mark.skipif(
                "fetched" in path.read_text() and not FETCHED.is_dir(), reason="run sample_models/fetch.py first"
            ),
            pytest.mark.skipif(
                "precision: bf16" in path.read_text() and not any("bf16" in name for name in fingerprint.isa()),
                reason="this CPU has no bf16 instructions",
            ),
        ],
    )
    for path in sorted((ROOT / "recipes").glob("*.yaml"))
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_planned(recipe):
    assert optkit.plan(recipe).branches


@pytest.fixture(scope="module")
def one_store(tmp_path_factory):
    """A store for all recipes: those on the same model begin with the same export."""
    return tmp_path_factory.mktemp("store")


IN_CI = {"fashion-cnn-int8", "fashion-cnn-state-dict", "fashion-cnn-weight-only", "minilm-int8-dynamic"}
"""Both runtimes, torch and ONNX models, images and texts; the other recipes are variations of these."""
BY_SESSION = [
    pytest.param(*each.values, id=each.id, marks=[*each.marks, *[pytest.mark.thorough] * (each.id not in IN_CI)])
    for each in RECIPES
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", BY_SESSION)
def test_every_recipe_runs_and_leaves_nothing_to_compute(recipe, few, tmp_path, one_store, monkeypatch):
    monkeypatch.setenv("OPTKIT_CACHE", str(one_store))
    fewer = [*fewer_texts(recipe, tmp_path), *fewer_views(recipe, tmp_path), *fewer_garments(recipe, few)]
    settings = ("benchmark.seconds=0.3", *fewer)
    done = optkit.run(recipe, settings=settings, output=tmp_path / "run")
    assert all(branch.status == "ok" for branch in done.branches)
    assert done.chosen
    for name in ("record.json", "report.md", "report.html"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert json.loads((tmp_path / "run" / "record.json").read_text())["schema"] == "optkit.run/1"
    assert all(stage.cached for branch in optkit.plan(recipe, settings=settings).branches for stage in branch.stages)


def fewer_texts(recipe, folder):
    """For a recipe on texts, the setting that leaves it 60 of them: a transformer takes its time over all."""
    if "minilm/texts.yaml" not in recipe.read_text():
        return ()
    given = FETCHED / "minilm"
    lines = (given / "texts.jsonl").read_text().splitlines()[:60]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    block = f"path: texts.jsonl\ntext: {{max_length: 128, tokenizer: {given / 'tokenizer.json'}}}\n"
    (folder / "texts.yaml").write_text(block)
    return (f"data={folder / 'texts.yaml'}", "calibration_samples=20")


def fewer_garments(recipe, few):
    """For a recipe on the committed CNN, the settings that leave it a fifth of the pictures."""
    return (f"data={few}", "calibration_samples=60") if "fashion_cnn/evaluation.npz" in recipe.read_text() else ()


def fewer_views(recipe, folder):
    """For a recipe on photos, the settings that leave it four views of each."""
    if "efficientnet_lite0/evaluation.yaml" not in recipe.read_text():
        return ()
    settings = []
    for key, part in (("data", "evaluation"), ("calibration", "calibration")):
        for view in (FETCHED / "efficientnet_lite0" / part).glob("*/*-0[0-3].jpg"):
            place = folder / part / view.parent.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(view, place)
        block = (ROOT / f"sample_models/efficientnet_lite0/{part}.yaml").read_text()
        (folder / f"{part}.yaml").write_text(re.sub("^path: .*$", f"path: {part}", block, flags=re.MULTILINE))
        settings.append(f"{key}={folder / part}.yaml")
    return settings
