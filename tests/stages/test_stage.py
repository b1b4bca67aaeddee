"""The contract of a stage, over the table: a new stage is tested by its line there."""

import importlib
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from optkit.cli.verbs import VERBS
from optkit.data.dataset import open_dataset
from optkit.errors import OptkitError, UsageError
from optkit.formats import opening
from optkit.options.option import Options
from optkit.runs import store
from optkit.stages.stage import STAGES, Context, Outcome, Stage, stage_class

SAVED = Path(__file__).parents[1] / "saved" / "0.1.0"
FILES = ("data.npz", "calibration.npz", "net.py", "models")
TRAINING = {"epochs": 1, "batch_size": 16}
EXAMPLES = {
    "prune": {"sparsity": 0.3, "steps": 1} | TRAINING,
    "distill": {"student_code": "net.py:small"} | TRAINING,
}
"""Options of stages that would do nothing, or work for long, by their defaults."""

SLOW = {name for name in STAGES if stage_class(name)(**EXAMPLES.get(name, {})).takes_torch}


@pytest.fixture(params=STAGES)
def name(request):
    return request.param


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Models and data in a folder of their own, which is the current one, and an empty folder to work in."""
    for each in FILES:
        copy = shutil.copytree if (SAVED / each).is_dir() else shutil.copyfile
        copy(SAVED / each, tmp_path / each)
    (tmp_path / "workdir").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def work(name, folder):
    """A stage, a model that it takes, and its context."""
    stage = stage_class(name)(**EXAMPLES.get(name, {}))
    model = opening.open("models/model.onnx")
    if stage.takes_torch:
        model = opening.open("models/weights.pth", code="net.py:build", inputs=map(str, model.signature.inputs))
    train, test = (open_dataset(file, model.signature.inputs) for file in ("calibration.npz", "data.npz"))
    context = Context(folder / "workdir", train, test, training=train, original=model, metric="accuracy", threads=1)
    return stage, model, context


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "workdir" not in path.parts}


def test_it_is_known_by_its_name_and_its_options_are_those_of_its_verb(name):
    found = stage_class(name)
    assert found.name == name
    assert issubclass(found, Stage)
    assert found.__doc__
    assert all(field.description for field in found.model_fields.values())
    if name in VERBS:
        module = importlib.import_module(f"optkit.options.verbs.{name}")
        command = getattr(module, f"{name.title()}Command")
        assert issubclass(command, Options)
        assert found.model_fields.keys() <= command.model_fields.keys()


def test_it_is_frozen_and_refuses_an_unknown_key(name):
    stage = stage_class(name)(**EXAMPLES.get(name, {}))
    with pytest.raises(ValidationError, match="Extra inputs"):
        stage_class(name)(nonsense=1)
    with pytest.raises(ValidationError):
        stage.nonsense = 1


def test_it_comes_back_from_a_recipe_as_it_was_with_the_same_key(work):
    stage, model, context = work
    again = type(stage).model_validate_json(stage.model_dump_json())
    assert again == stage
    assert type(stage)(**stage.model_dump(mode="json")) == stage
    assert store.key(again, model, context) == store.key(stage, model, context)
    assert all(Path(path).exists() for path in stage.reads)


def test_a_check_of_another_model_is_silent_or_an_error_of_ours_and_writes_nothing(name, folder):
    before = files(folder)
    for path in ("models/static.onnx", "models/static.xml", "models/student.safetensors"):
        with suppress(OptkitError):
            stage_class(name)().check(opening.open(path, code="net.py:small"), Context(folder / "workdir"))
    assert files(folder) == before
    assert not list((folder / "workdir").iterdir())


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.thorough] * (each in SLOW)) for each in STAGES])
def test_it_writes_below_the_workdir_only_and_the_result_opens(work, folder):
    (stage, model, context), before = work, files(folder)
    stage.check(model, context)
    done = stage.apply(model, context)
    assert isinstance(done, Outcome)
    assert files(folder) == before
    assert done.model.path.is_relative_to(context.workdir)
    assert opening.open(done.model.path, code=done.model.code).digest == done.model.digest
    assert all(note.text and "\n" not in note.text for note in done.notes)
    assert (done.engine_seconds or 0) >= 0


def test_an_unknown_stage_is_refused_with_the_nearest(name):
    with pytest.raises(UsageError) as caught:
        stage_class(f"{name}s")
    assert f"did you mean '{name}'?" in caught.value.hint
