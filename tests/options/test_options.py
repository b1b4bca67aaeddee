"""Options: declared once, and the same on the command line, in Python, in recipes and in the stub."""

import ast
import importlib
import inspect
import subprocess
import sys
import typing
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import typer

import optkit
from optkit.cli.app import app
from optkit.cli.verbs import VERBS
from optkit.errors import UsageError
from optkit.options import stub, tables
from optkit.options.calling import takes
from optkit.options.option import Options, options_of
from optkit.options.verbs.cache import CacheCommand
from optkit.options.verbs.inspect import InspectCommand
from optkit.runs.recipe import Recipe
from optkit.stages.stage import STAGES, stage_class

PACKAGE = Path(optkit.__file__).parent
ROOT = PACKAGE.parent
ROOM = PACKAGE / "options"
RECIPE = Path(inspect.getfile(Recipe))
DECLARING = [
    RECIPE,
    *(path for room in ("options", "verbs", "cli", "stages") for path in (PACKAGE / room).rglob("*.py")),
]


def command_model(verb):
    """The model of all options of a verb's command."""
    module = importlib.import_module(f"optkit.options.verbs.{verb}")
    own = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    return next(each for each in reversed(own) if each.__name__.endswith(("Line", "Command")))


def parameters_of(verb):
    command = typer.main.get_command(app).get_command(None, verb)
    return {each.name: each for each in command.params}


def calls(name):
    """Calls of a function of this name in the files that may declare options, with their file."""
    for path in DECLARING:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name:
                yield path, node


def text_of(node):
    """The description in a call of Field, where there is one."""
    return next((ast.unparse(each.value) for each in node.keywords if each.arg == "description"), None)


def test_no_description_is_written_twice():
    found = Counter(text for _, node in calls("Field") if (text := text_of(node)))
    assert {text for text, count in found.items() if count > 1} == set()


def test_options_are_declared_in_their_room_alone():
    typed = {path.name for name in ("Option", "Argument") for path, _ in calls(name)}
    fields = {path for path, node in calls("Field") if text_of(node) and ROOM not in path.parents}
    assert typed <= {"derive.py", "app.py", "option.py"}
    assert fields <= {RECIPE}


def test_no_function_of_a_verb_or_command_repeats_an_option_with_a_default():
    known = {each.name for verb in VERBS for each in options_of(command_model(verb))}
    for path in DECLARING:
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        for node in functions if path.parent.name in ("cli", "verbs") and path.stem in VERBS else ():
            arguments = node.args
            names = {each.arg for each in arguments.args[len(arguments.args) - len(arguments.defaults) :]}
            keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            names |= {each.arg for each, default in keywords if default is not None}
            assert not names & known, f"{path.name}: {node.name}"


def test_no_function_of_the_package_repeats_the_number_that_an_option_is_by_default():
    options = [each for verb in VERBS for each in options_of(command_model(verb))]
    known = {(each.name, each.field.default) for each in options if isinstance(each.field.default, int | float)}
    for path in set(PACKAGE.rglob("*.py")) - set(ROOM.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                last = node.args.args[len(node.args.args) - len(node.args.defaults) :]
                pairs = [*zip(last, node.args.defaults, strict=True)]
                pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                given = {(name.arg, value.value) for name, value in pairs if isinstance(value, ast.Constant)}
                assert not {pair for pair in given & known if pair[1] not in (0, 1)}, (path.name, node.name)


def shown(option):
    """All that a declaration says, but for its default."""
    bounds = {name: option.bound(name) for name in ("ge", "gt", "le", "lt")}
    return option.type, option.description, bounds


def test_an_option_of_one_description_has_one_name_type_and_bounds():
    declared = {}
    for model in (*map(command_model, VERBS), *map(stage_class, STAGES), Recipe):
        for option in options_of(model):
            if model is Recipe and option.name in ("model", "data", "train", "calibration"):
                continue  # in a recipe a block, not a path
            if model is InspectCommand and option.name == "model":
                continue  # which may be open already
            before = declared.setdefault((option.name, option.description), shown(option))
            assert before == shown(option), (model.__name__, option.name)


@pytest.mark.parametrize("stage", [name for name in STAGES if name in VERBS])
def test_the_fields_of_a_stage_are_options_of_its_command(stage):
    command = command_model(stage).model_fields
    for name, field in stage_class(stage).model_fields.items():
        assert (command[name].default, command[name].description) == (field.default, field.description), name


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_description_and_a_group(verb):
    for option in options_of(command_model(verb)):
        assert option.description.endswith("."), option.name
        assert option.group, option.name


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_shows_what_was_declared(verb):
    found = parameters_of(verb)
    for option in options_of(command_model(verb)):
        if option.spelling.hidden or option.spelling.flags:
            continue
        parameter = found[option.name]
        assert parameter.help.startswith(option.description)
        assert parameter.required == option.field.is_required()
        if not option.spelling.argument:
            assert option.flag in parameter.opts


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_in_python_takes_what_its_command_takes(verb):
    keywords = inspect.signature(getattr(optkit, verb)).parameters
    only_there = {"gate": {"inconclusive", "junit", "summary"}}.get(verb, set())
    assert {each.name for each in options_of(command_model(verb))} - only_there == set(keywords) - {"progress"}


OUT_OF_RANGE = [
    ("quantize", "smooth_quant", 1.5, "should be less than or equal to 1"),
    ("quantize", "learning_rate", -1.0, "should be greater than 0"),
    ("quantize", "learning_rate", 0.0, "should be greater than 0"),
    ("quantize", "weight_decay", -1.0, "should be greater than or equal to 0"),
    ("prune", "sparsity", 0.0, "should be greater than 0"),
    ("prune", "sparsity", 1.0, "should be less than 1"),
    ("prune", "target_speedup", 1.0, "should be greater than 1"),
    ("prune", "steps", 0, "should be greater than or equal to 1"),
    ("distill", "temperature", 0.0, "should be greater than 0"),
    ("distill", "hidden", -1.0, "should be greater than or equal to 0"),
    ("export", "rtol", -1.0, "should be greater than or equal to 0"),
    ("export", "atol", -1.0, "should be greater than or equal to 0"),
    ("export", "opset", 24, "should be less than or equal to 23"),
    ("compile", "threads", 0, "should be greater than or equal to 1"),
    ("benchmark", "seconds", 0.0, "should be greater than 0"),
    ("benchmark", "rate", 0.0, "should be greater than 0"),
    ("compare", "precision", 0.0, "should be greater than 0"),
    ("compare", "max_drop", -0.1, "should be greater than or equal to 0"),
    ("evaluate", "batch", 0, "should be greater than or equal to 1"),
    ("explain", "time_limit", 0.0, "should be greater than 0"),
    ("gate", "min_speedup", 0.0, "should be greater than 0"),
    ("optimize", "calibration_samples", 0, "should be greater than or equal to 1"),
    ("optimize", "budget", 0.0, "should be greater than 0"),
    ("cache", "older_than", -1.0, "should be greater than or equal to 0"),
]
REQUIRED = {
    "model": "m.onnx", "models": ["m.onnx"], "teacher": "m.pth", "baseline": "a.onnx", "candidate": "b.onnx",
    "candidates": ["b.onnx"], "target": "onnxruntime", "data": "d.npz", "output": "out.onnx",
}  # fmt: skip


def required(verb):
    return {name: REQUIRED[name] for name, field in command_model(verb).model_fields.items() if field.is_required()}


@pytest.mark.parametrize(("verb", "name", "value", "message"), OUT_OF_RANGE)
def test_a_value_out_of_range_names_the_keyword_in_python(verb, name, value, message):
    with pytest.raises(UsageError, match=f"^{name} {value}: {message}"):
        getattr(optkit, verb)(**required(verb), **{name: value})


def line_of(verb, **values):
    """The command line of options that are no flags."""
    by_name = {each.name: each for each in options_of(command_model(verb))}
    for name, value in values.items():
        option = by_name[name]
        yield from ([] if option.spelling.argument else [option.flag])
        yield from map(str, value if isinstance(value, list) else [value])


@pytest.mark.parametrize(("verb", "name", "value", "message"), OUT_OF_RANGE)
def test_a_value_out_of_range_names_the_option_on_the_command_line(cli, verb, name, value, message):
    flags = ["--int8"] if verb == "quantize" else []
    done = cli(verb, *flags, *line_of(verb, **required(verb), **{name: value}))
    assert done.exit_code == 2
    assert f"--{name.replace('_', '-')}" in done.output.replace("'", "")
    assert "Traceback" not in done.output


def test_an_unknown_keyword_is_told_with_the_nearest_one():
    with pytest.raises(TypeError, match="unexpected keyword argument 'precison'; did you mean 'precision'"):
        optkit.quantize("m.onnx", precison="int8")


def test_numbers_of_numpy_are_taken_as_pythons():
    @takes(CacheCommand)
    def cache(options, progress):
        return options

    assert cache(older_than=np.float32(0.5), max_bytes=np.int64(3)) == CacheCommand(older_than=0.5, max_bytes=3)


def test_a_missing_keyword_is_told():
    with pytest.raises(TypeError, match=r"export\(\) missing a required argument: 'output'"):
        optkit.export("m.pt")


def test_a_recipe_has_the_bounds_of_the_command_line(tmp_path):
    from optkit.runs.recipe import read_recipe

    (tmp_path / "recipe.yaml").write_text("model: m.pt\nstages: [{export: {rtol: -1.0}}]\n")
    with pytest.raises(UsageError, match=r"rtol should be greater than or equal to 0"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_group_hands_its_fields_on():
    from optkit.options.verbs.quantize import QuantizeCommand
    from optkit.stages.quantize import Quantize

    command = QuantizeCommand(model="m.onnx", smooth_quant=0.5, exclude=["a"], epochs=2)
    assert command.part(Quantize) == Quantize(smooth_quant=0.5, exclude=("a",), epochs=2)


def test_the_stub_is_what_the_options_say():
    assert stub.FILE.read_text() == stub.text(), "write it anew: nox -s reference"


CALLS = """\
import optkit
from optkit.records.comparison import Comparison
from optkit.records.run import Transformation
from typing import assert_type

assert_type(optkit.quantize("m.onnx", "out.onnx", data="d.npz", precision="int8", smooth_quant=0.5), Transformation)
assert_type(optkit.compare("a.onnx", ["b.onnx"], max_drop=0.01, seconds=1), Comparison)
optkit.benchmark("a.onnx", max_p99="20ms", batch=[1, 8])
optkit.inspect(optkit.open("a.onnx"), targets=["openvino"])
optkit.gate("a.onnx", baseline="b.onnx", max_drop=0.01)
"""
WRONG = [
    ('optkit.quantize("m", precison="int8")', "Unexpected keyword argument"),
    ('optkit.quantize("m", precision="int9")', "incompatible type"),
    ('optkit.quantize("m", smooth_quant="much")', "incompatible type"),
    ('optkit.export("m.pt")', "Missing positional argument"),
    ('optkit.evaluate("m.onnx")', "Missing named argument"),
    ('optkit.compres("m")', "has no attribute"),
    ("optkit.Transformation", "does not explicitly export"),
]


def test_a_type_checker_knows_the_keywords_and_the_records(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(CALLS + "".join(f"{call}\n" for call, _ in WRONG))
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    found = [line for line in done.stdout.splitlines() if "script.py" in line and "error:" in line]
    first = CALLS.count("\n") + 1
    assert {int(line.split("script.py:")[1].split(":")[0]) for line in found} == set(range(first, first + len(WRONG)))
    for line, (_, says) in zip(found, WRONG, strict=True):
        assert says in line


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_tables_of_the_docs_are_what_the_options_say(page):
    assert page.read_text() == tables.written(page.read_text()), "write it anew: nox -s reference"


def test_options_are_light():
    allowed = {"optkit.errors", "optkit.units", "optkit.lazy", "optkit.progress", "optkit", "optkit.targets.table"}
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optkit"):
                assert node.module in allowed or node.module.startswith("optkit.options"), (path.name, node.module)


def test_groups_are_frozen_and_strict():
    for verb in VERBS:
        config = command_model(verb).model_config
        assert (config["frozen"], config["strict"], config["extra"]) == (True, True, "forbid")
    assert issubclass(command_model("doctor"), Options)
    assert typing.get_type_hints(Options.part)
