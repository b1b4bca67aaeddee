"""The architecture as docs/architecture.md states it, checked against the code."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from optkit import lazy
from optkit.cli.verbs import VERBS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "optkit"
LAYERS = [
    line.split()
    for line in re.search(r"```layers\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[
        1
    ].splitlines()
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)
FAMILIES = ("stages", "targets", "quantizers", "datasets", "reports")
TABLES = (
    "optkit.stage:STAGES", "optkit.target:TARGETS", "optkit.quantizer:QUANTIZERS", "optkit.data:SOURCES",
    "optkit.reporting:REPORTS",
)  # fmt: skip
STAGE_OPTIONS = {
    "precision": {"int8", "fp8", "fp16", "bf16", "int4"},
    "floats": {"fp16", "bf16"},
    "options": {"option"},
}
"""Fields whose options on the command line are spelled otherwise: a flag for each value, or one entry at a time."""


def imported(path):
    """The modules of optkit that ``path`` imports, wherever in the file, typing aside."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in set(ast.walk(tree)) - typing_only:
        if isinstance(node, ast.ImportFrom) and node.module == "optkit":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optkit."):
            yield node.module.removeprefix("optkit.")


def layer_of(module):
    return LAYER[module.split(".")[0]]


def test_every_module_has_a_layer_and_every_layer_its_modules():
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert there == set(LAYER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path):
    own = layer_of(path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
    below = [module for module in imported(path) if layer_of(module) > own]
    assert not below


@pytest.mark.parametrize("family", FAMILIES)
def test_members_of_a_family_do_not_import_each_other(family):
    for path in (PACKAGE / family).glob("*.py"):
        assert not [module for module in imported(path) if module.startswith(f"{family}.")], path.name


def test_no_file_holds_two_ideas():
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name for name, length in lengths.items() if length > 350} == set()


def test_names_explain_themselves():
    vague = {"utils", "util", "common", "base", "core", "helpers", "helper", "manager", "misc"}
    assert not vague & {path.stem for path in PACKAGE.rglob("*")}


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_of_a_table_resolves(table):
    module, name = table.split(":")
    entries = getattr(importlib.import_module(module), name)
    assert all(lazy.resolve(entries, entry, kind="entry") for entry in entries)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function_of_the_same_name(verb):
    assert callable(importlib.import_module(f"optkit.cli.{verb}").__dict__[verb])
    assert callable(importlib.import_module("optkit").__getattr__(verb))


@pytest.mark.parametrize("stage", ["export", "quantize", "compile"])
def test_a_stages_fields_are_the_options_of_its_command(stage):
    import inspect

    from optkit.stage import stage_class

    options = set(inspect.signature(importlib.import_module(f"optkit.cli.{stage}").__dict__[stage]).parameters)
    for field in stage_class(stage).model_fields:
        assert STAGE_OPTIONS.get(field, {field}) <= options
