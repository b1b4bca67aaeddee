"""Recipes: what they say, and where and what a wrong one says."""

import json
import textwrap
from pathlib import Path

import jsonschema
import pytest

from optkit.errors import RecipeError, UsageError
from optkit.runs.recipe import Recipe, read_recipe
from optkit.schemas import published

WHOLE = """
model: {path: models/net.pth, code: net.py:build, inputs: ["x:float32[batch,1,28,28]"]}
data: data.npz
calibration: {path: calibration.npz}
calibration_samples: 100
seed: 7
metric: accuracy
max_drop: 1e-2
targets: [onnxruntime, openvino]
stages:
  - export
  - quantize: {precision: int8, exclude: [Conv_0]}
  - compile:
benchmark: {seconds: 2, threads: 1, batch: 4}
gate: {max_drop: 0.02, max_p99: 20ms, max_memory: 500MB}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a recipe and reads it."""
    monkeypatch.chdir(tmp_path)

    def read(text, *settings):
        Path("recipe.yaml").write_text(textwrap.dedent(text))
        return read_recipe("recipe.yaml", settings)

    return read


def test_a_recipe_holds_what_its_file_says(written):
    recipe = written(WHOLE)
    assert recipe.model.code == "net.py:build"
    assert recipe.calibration.path == "calibration.npz"
    assert recipe.max_drop == 0.01
    assert [stage.name for stage in recipe.stages] == ["export", "quantize", "compile"]
    assert recipe.stages[1].exclude == ("Conv_0",)
    assert recipe.benchmark.batch == 4
    assert recipe.gate.given == {"max_drop": 0.02, "max_p99": 0.02, "max_memory": 500_000_000}


def test_a_model_alone_is_a_recipe(written):
    recipe = written("model: net.onnx")
    assert recipe.targets == ["onnxruntime"]
    assert recipe.stages == []
    assert recipe.benchmark.seconds == 10


def test_paths_are_relative_to_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    text = "model: {path: ../net.pth, code: net.py:build}\ndata: {path: a.csv, text: {tokenizer: t.json}}"
    Path("recipes/r.yaml").write_text(text)
    recipe = read_recipe("recipes/r.yaml")
    assert recipe.model.path == "net.pth"
    assert recipe.model.code == "recipes/net.py:build"
    assert recipe.data.path == "recipes/a.csv"
    assert recipe.data.text.tokenizer == "recipes/t.json"


def test_an_absolute_path_stays(written):
    assert written("model: /models/net.onnx").model.path == "/models/net.onnx"


def test_the_document_of_a_recipe_reads_back_as_the_same(written):
    recipe = written(WHOLE)
    assert written(json.dumps(recipe.document())) == recipe


@pytest.mark.parametrize("text", ["gate: {}", "gate:"])
def test_a_gate_without_rules_is_a_gate(written, text):
    recipe = written(f"model: a.onnx\n{text}\n")
    assert recipe.gate is not None
    assert recipe.gate.given == {}
    assert recipe.document()["gate"] == {}
    assert "gate" not in written("model: a.onnx").document()


def test_the_gates_loss_bounds_the_choice_where_the_recipe_gives_none(written):
    text = "model: a.onnx\ndata: a.npz\ngate: {max_drop: 0.02}\n"
    assert written(text).bound == 0.02
    assert written(text + "max_drop: 0.01\n").bound == 0.01
    assert written("model: a.onnx\ngate: {}\n").bound is None


WRONG = {
    "unknown rule": (
        "model: a.onnx\ngate:\n  min_speed: 2\n",
        "recipe.yaml:3: unknown key 'min_speed' in gate; did you mean 'min_speedup'?",
    ),
    "value of a rule": (
        "model: a.onnx\ngate:\n  max_p99: 20x\n",
        "recipe.yaml:3: gate.max_p99: '20x' is not a time, for example 20ms; units: us, ms, s, min",
    ),
    "type of a rule": (
        "model: a.onnx\ngate: {max_memory: [1]}\n",
        "recipe.yaml:2: gate.max_memory: [1] is not a size, for example 500MB",
    ),
    "text as a rule's number": (
        "model: a.onnx\ngate: {min_speedup: fast}\n",
        "recipe.yaml:2: gate.min_speedup should be a valid number, not 'fast'",
    ),
    "range of a rule": (
        "model: a.onnx\ngate: {max_size_ratio: 0}\n",
        "recipe.yaml:2: gate.max_size_ratio should be greater than 0, not 0",
    ),
    "infinite rule": (
        "model: a.onnx\ngate: {max_slowdown: .inf}\n",
        "recipe.yaml:2: gate.max_slowdown should be a finite number, not inf",
    ),
    "gate no mapping": ("model: a.onnx\ngate: strict\n", "recipe.yaml:2: gate should be "),
    "gate of quality without data": (
        "model: a.onnx\ngate:\n  max_drop: 0.01\n",
        "recipe.yaml:3: gate.max_drop does nothing without data",
    ),
    "unknown key": (
        "model: a.onnx\nbench: {seconds: 1}\n",
        "recipe.yaml:2: unknown key 'bench'; did you mean 'benchmark'?",
    ),
    "unknown key of a block": (
        "model: a.onnx\nbenchmark:\n  threads: 1\n  secnds: 1\n",
        "recipe.yaml:4: unknown key 'secnds' in benchmark; did you mean 'seconds'?",
    ),
    "unknown key of the data's block": (
        "model: a.onnx\ndata:\n  path: x\n  images: {sise: 1}\n",
        "recipe.yaml:4: unknown key 'sise' in data.images; did you mean 'size'?",
    ),
    "unknown stage": (
        "model: a.onnx\nstages:\n  - export\n  - quantise: {}\n",
        "recipe.yaml:4: unknown stage 'quantise' in stages[1]; did you mean 'quantize'?",
    ),
    "unknown stage alone": (
        "model: a.onnx\nstages: [quantise]\n",
        "recipe.yaml:2: unknown stage 'quantise' in stages[0]; did you mean 'quantize'?",
    ),
    "unknown key of a stage": (
        "model: a.onnx\nstages:\n  - quantize:\n      precison: int8\n",
        "recipe.yaml:4: unknown key 'precison' in stages[0].quantize; did you mean 'precision'?",
    ),
    "two stages in one": (
        "model: a.onnx\nstages:\n  - quantize: {}\n    compile: {}\n",
        "recipe.yaml:3: stages[0] should be one stage's name with its fields, not {'quantize': {}, 'compile': {}}",
    ),
    "value of a stage": (
        "model: a.onnx\nstages:\n  - quantize: {precision: int3}\n",
        "recipe.yaml:3: stages[0].quantize.precision should be 'int8', 'fp8', 'fp16', 'bf16' or 'int4', not 'int3'",
    ),
    "type of a stage": (
        "model: a.onnx\nstages:\n  - quantize: {per_channel: 'yes'}\n",
        "recipe.yaml:3: stages[0].quantize.per_channel should be a valid boolean, not 'yes'",
    ),
    "stage after compile": (
        "model: a.onnx\nstages:\n  - compile\n  - quantize\n",
        "recipe.yaml:3: compile must be the last stage, and stages[1] follows",
    ),
    "type": (
        "model: a.onnx\nbenchmark: {seconds: ten}\n",
        "recipe.yaml:2: benchmark.seconds should be a valid number, not 'ten'",
    ),
    "range": (
        "model: a.onnx\n\nmax_drop: -1\n",
        "recipe.yaml:3: max_drop should be greater than or equal to 0, not -1",
    ),
    "item": (
        "model: a.onnx\ntargets:\n  - onnxruntime\n  - 3\n",
        "recipe.yaml:4: targets[1] should be a valid string, not 3",
    ),
    "stages no list": ("model: a.onnx\nstages: {}\n", "recipe.yaml:2: stages should be a valid list, not {}"),
    "no model": ("targets: [openvino]\n", "recipe.yaml:1: the recipe needs the key 'model'"),
    "no path": ("model:\n  code: a.py:b\n", "recipe.yaml:1: model needs the key 'path'"),
    "unknown target": (
        "model: a.onnx\ntargets: [openvno]\n",
        "recipe.yaml:2: unknown target 'openvno' in targets; did you mean 'openvino'?",
    ),
    "target twice": (
        "model: a.onnx\ntargets: [openvino, openvino]\n",
        "recipe.yaml:2: the target 'openvino' is given twice",
    ),
    "unknown metric": (
        "model: a.onnx\ndata: a.npz\nmetric: acuracy\n",
        "recipe.yaml:3: unknown metric 'acuracy'; did you mean 'accuracy'?",
    ),
    "metric without output": (
        "model: a.onnx\ndata: a.npz\nmetric: 'accuracy:'\n",
        "recipe.yaml:3: metric 'accuracy:' names no output after the colon",
    ),
    "metric without data": ("model: a.onnx\nmetric: accuracy\n", "recipe.yaml:2: metric does nothing without data"),
    "images and text": (
        "model: a.onnx\ndata: {path: x, images: {}, text: {tokenizer: t}}\n",
        "recipe.yaml:2: data: give images or text, not both",
    ),
    "key twice": (
        "model: a.onnx\nseed: 1\nseed: 2\n",
        "recipe.yaml:3: the key 'seed' is given twice, first in line 2",
    ),
    "broken": ("model: a.onnx\nstages: [quantize\n", "recipe.yaml:3: not valid YAML: expected ',' or ']'"),
    "tab": ("model:\n\tpath: a\n", "recipe.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
    "unknown tag": ("model: !!python/object:os.x {}\n", "recipe.yaml:1: not valid YAML: could not determine"),
    "inside itself": ("model: &a {path: *a}\n", "recipe.yaml:1: the value contains itself"),
    "empty": ("# nothing\n", "recipe.yaml: the file is empty"),
    "no mapping": ("- model\n", "recipe.yaml:1: a recipe is a mapping of keys to values"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_recipe_says_where_and_what(written, text, message):
    with pytest.raises(RecipeError) as caught:
        written(text)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_a_missing_recipe_names_those_that_are_there(written, tmp_path):
    (tmp_path / "other.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"no\.yaml: no such file") as caught:
        read_recipe("no.yaml")
    assert "other.yaml" in caught.value.hint


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="a folder"):
        read_recipe(tmp_path)


def test_a_binary_file_is_no_recipe(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        read_recipe(tmp_path / "r.yaml")


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "found"),
        [
            ("benchmark.seconds=5", lambda recipe: recipe.benchmark.seconds == 5),
            ("stages.1.quantize.method=dynamic", lambda recipe: recipe.stages[1].method == "dynamic"),
            ("stages.0=quantize", lambda recipe: recipe.stages[0].name == "quantize"),
            ("targets.0=openvino", lambda recipe: recipe.targets == ["openvino"]),
            ("targets=[openvino, torch]", lambda recipe: recipe.targets == ["openvino", "torch"]),
            ("model.code=net.py:build", lambda recipe: recipe.model.code == "net.py:build"),
            ("max_drop=null", lambda recipe: recipe.max_drop is None),
            ("gate.max_p99=20ms", lambda recipe: recipe.gate.max_p99 == 0.02),
        ],
    )
    def test_a_setting_replaces_or_adds(self, written, setting, found):
        text = "model: a.pth\ndata: a.npz\nmax_drop: 0.1\ntargets: [onnxruntime]\nstages: [export, quantize]"
        assert found(written(text, setting))

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("benchmark.secnds=5", "unknown key 'secnds' in benchmark; did you mean 'seconds'?"),
            ("bench.seconds=5", "unknown key 'bench'; did you mean 'benchmark'?"),
            ("benchmark.seconds=ten", "benchmark.seconds should be a valid number, not 'ten'"),
            ("stages.7=export", "stages has 1 items, counted from 0, and no item 7"),
            ("stages.x=export", "stages has 1 items, counted from 0, and no item 'x'"),
            ("stages.0.quantise.method=static", "unknown stage 'quantise' in stages[0]; did you mean 'quantize'?"),
            ("seed.a=1", "seed is 3 and has no keys"),
            ("metric=acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'?"),
            ("targets=[", "the value is not valid YAML"),
            ("nothing", "is not KEY=VALUE"),
            ("gate.max_p9=1", "unknown key 'max_p9' in gate; did you mean 'max_p99'?"),
        ],
    )
    def test_a_wrong_setting_says_so_itself(self, written, setting, message):
        with pytest.raises(UsageError) as caught:
            written("model: a.onnx\ndata: a.npz\nseed: 3\nstages: [quantize]", setting)
        assert "--set" in caught.value.message
        assert setting in caught.value.message
        assert message in caught.value.message


def properties_of(schema, place=""):
    """The place and the schema of every property, however deep."""
    children = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for key, child in children:
        if key == "properties":
            yield from ((f"{place}.{name}", each) for name, each in child.items())
        yield from properties_of(child, f"{place}.{key}")


class TestTheSchema:
    schema = property(lambda self: published.recipe_schema())

    def test_every_file_is_what_the_code_says(self):
        written = {file.name: file.read_text() for file in published.FOLDER.glob("*.json")}
        assert written == published.texts(), "run: python -m optkit.schemas"

    @pytest.mark.parametrize("name", published.texts())
    def test_every_property_is_described(self, name):
        found = json.loads((published.FOLDER / name).read_text())
        assert not [place for place, schema in properties_of(found) if not schema.get("description", "").strip()]

    def test_a_recipe_and_its_document_are_valid(self, written):
        import yaml

        recipe = written(WHOLE)
        jsonschema.validate(yaml.safe_load(WHOLE.replace("1e-2", "0.01")), self.schema)
        jsonschema.validate(recipe.document(), self.schema)

    @pytest.mark.parametrize(
        "change",
        [
            {"bench": 1},
            {"stages": ["quantise"]},
            {"stages": [{"quantize": {"precision": "int3"}}]},
            {"stages": [{"quantize": {"precison": "int8"}}]},
            {"model": {}},
            {"max_drop": -1},
            {"gate": {"min_speed": 2}},
            {"gate": {"min_speedup": 0}},
        ],
    )
    def test_what_reading_refuses_is_invalid(self, change):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"model": "a.onnx"} | change, self.schema)

    def test_all_keys_are_described_by_the_model(self):
        assert set(self.schema["properties"]) == set(Recipe.model_fields)
