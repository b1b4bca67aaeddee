"""The committed recipes, and a run from beginning to end."""

import json
from pathlib import Path

import pytest

import optkit

ROOT = Path(__file__).parent.parent
FETCHED = ROOT / "sample_models" / "fetched"
RECIPES = [
    pytest.param(
        path,
        id=path.stem,
        marks=pytest.mark.skipif(
            "fetched" in path.read_text() and not FETCHED.is_dir(), reason="run sample_models/fetch.py first"
        ),
    )
    for path in sorted((ROOT / "recipes").glob("*.yaml"))
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_planned(recipe):
    assert optkit.plan(recipe).branches


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_and_computes_nothing_twice(recipe, tmp_path):
    quick = ("benchmark.seconds=0.3",)
    first = optkit.run(recipe, settings=quick, output=tmp_path / "first")
    again = optkit.run(recipe, settings=quick, output=tmp_path / "again")
    assert all(branch.status == "ok" for branch in first.branches)
    assert all(stage.cached for branch in again.branches for stage in branch.stages)
    digests = [[stage.result.digest for branch in run.branches for stage in branch.stages] for run in (first, again)]
    assert digests[0] == digests[1]
    for name in ("record.json", "report.md", "report.html"):
        assert (tmp_path / "first" / name).stat().st_size > 0
    assert json.loads((tmp_path / "first" / "record.json").read_text())["schema"] == "optkit.run/1"
    assert first.chosen
