"""The architecture as docs/architecture.md states it, checked against the code."""

import ast
import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

from optkit import lazy
from optkit.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "optkit"
DOORSTEP = {"errors", "lazy", "notes", "progress", "units", "version"}
"""Modules directly in the package: they stand on nothing but each other."""
ROOMS = dict(
    line.split(None, 1)
    for line in re.search(r"```rooms\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[1].splitlines()
)
"""The charter of each room, in the order of imports."""
ORDER = {name: number for number, name in enumerate(ROOMS)}
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py") and (path.parent != PACKAGE or path.stem in DOORSTEP)
)
TABLES = (
    "optkit.stages.stage:STAGES",
    "optkit.targets.table:TARGETS",
    "optkit.quantization.quantizer:QUANTIZERS",
    "optkit.data.dataset:SOURCES",
    "optkit.reports.report:REPORTS",
)
CLAUSES = {"What", "How", "Whether", "Which"}
"""Words that begin a clause in place of a term."""
TABLE = "targets/table"
"""A table that imports nothing, so that the command line may read it."""
SMALL = {"decisions", "deployment", "schemas", "explanation"}
"""Rooms of fewer than five files: two that later work fills, one of files of another kind, and one of rooms."""

CONTRACTS = {"dataset": "source", "table": "target"}
"""The contract of a family, where the file that defines it has another name."""
TESTS = ROOT / "tests"
UNTESTED = {
    "schemas": "files that are compared with the code where recipes and runs are tested",
}
"""Rooms without a folder of tests."""
OTHER_TESTS = {
    "documents": "README, docs, samples and the architecture, which belong to no room",
    "outside": "a package that stands for a third party's",
    "saved": "files that earlier versions wrote",
}
"""Folders of tests of no room."""


def imported(path):
    """The modules of optkit that ``path`` imports, wherever in the file, typing aside, as paths below the package."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in set(ast.walk(tree)) - typing_only:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "optkit":
            folder = PACKAGE.parent / node.module.replace(".", "/")
            names = [node.module] if not folder.is_dir() else [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name.removeprefix("optkit.").replace(".", "/") for name in names)


def room_of(module):
    """The number of the room of a module's path; the doorstep comes before all."""
    room, _, rest = module.partition("/")
    return ORDER[room] if rest else -1


def relative(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_rooms_import_from_rooms_before_them(path):
    own = room_of(relative(path))
    assert not [module for module in imported(path) if room_of(module) > own and module != TABLE]


def test_files_form_no_circle():
    arrows = {relative(path): set(imported(path)) for path in FILES}
    while ends := {module for module, others in arrows.items() if not others & set(arrows)}:
        arrows = {module: others for module, others in arrows.items() if module not in ends}
    assert not arrows


def test_every_room_has_its_charter_and_nothing_else_in_its_init():
    charters = {}
    for init in PACKAGE.glob("*/**/__init__.py"):
        tree = ast.parse(init.read_text())
        assert len(tree.body) == 1, init
        charters[init.parent.relative_to(PACKAGE).as_posix()] = ast.get_docstring(tree)
    assert all(charters.values())
    assert {room: charters[room] for room in ROOMS} == ROOMS
    assert {room for room in charters if "/" not in room} == set(ROOMS)


def test_rooms_are_neither_cupboards_nor_halls():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} == DOORSTEP
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 10
    sizes = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in FILES if path.parent != PACKAGE)
    a_file_per_verb = {"cli", "verbs", "options/verbs"}
    assert {room for room, size in sizes.items() if size > 15} <= a_file_per_verb
    assert {room for room in ROOMS if sizes[room] < 5} == SMALL


@pytest.mark.parametrize("table", TABLES)
def test_members_of_a_family_do_not_import_each_other(table):
    members = {entry.partition(":")[0].removeprefix("optkit.").replace(".", "/") for entry in entries(table).values()}
    for member in members:
        others = members - {member}
        assert not others & set(imported(PACKAGE / f"{member}.py")), member


@pytest.mark.parametrize("table", TABLES)
def test_a_family_lives_whole_in_its_room(table):
    room = table.split(".")[1]
    assert {entry.split(".")[1] for entry in entries(table).values()} == {room}


def entries(table):
    """A table of a family: "module:Name" by member."""
    module, name = table.split(":")
    return getattr(importlib.import_module(module), name)


def test_no_file_and_no_function_holds_two_ideas():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        assert not [each.name for each in functions if each.end_lineno - each.lineno >= 60], path


def docstrings(path):
    """The docstrings of a file: of the module, its classes and functions, and those under attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            values = [each.value for each in node.body if isinstance(each, ast.Expr)]
            yield from (each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str))


def test_docstrings_begin_with_a_verb_or_the_name_of_the_thing():
    found = {path.name: [text for text in docstrings(path) if text.split()[0].strip(",:") in CLAUSES] for path in FILES}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_errors_of_foreign_libraries_are_caught_in_few_places():
    """Broad excepts: where such errors are translated, and where an exception may not cross a border."""
    broad = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            caught = [node.type] if isinstance(node, ast.ExceptHandler) else []
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
                caught = node.args
            names = {
                each.id for kind in caught if kind is not None for each in ast.walk(kind) if isinstance(each, ast.Name)
            }
            if None in caught or names & {"Exception", "BaseException"}:
                broad.append(relative(path))
    assert sorted(broad) == ["measurement/child", "system/native", "targets/tensorrt/callbacks"]


def test_names_explain_themselves():
    vague = {"utils", "util", "common", "base", "core", "helpers", "helper", "manager", "misc"}
    assert not vague & {path.stem for path in PACKAGE.rglob("*")}


def test_no_class_name_stands_twice():
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == set()


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_of_a_table_resolves(table):
    known = entries(table)
    assert all(lazy.resolve(known, entry, kind="entry") for entry in known)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function_of_the_same_name(verb):
    assert callable(importlib.import_module(f"optkit.cli.{verb}").__dict__[verb])
    assert callable(importlib.import_module("optkit").__getattr__(verb))


def test_tests_mirror_the_rooms():
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders == (set(ROOMS) - set(UNTESTED)) | set(OTHER_TESTS)
    assert not set(UNTESTED) - set(ROOMS)
    doorstep = {path.stem.removeprefix("test_").removesuffix("_properties") for path in TESTS.glob("test_*.py")}
    assert doorstep <= DOORSTEP


def test_no_two_files_of_tests_have_one_name():
    """Without packages, pytest imports a test by its file's name alone."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if TESTS / "saved" not in path.parents)
    assert {name for name, count in names.items() if count > 1} == set()


@pytest.mark.parametrize("table", TABLES)
def test_the_contract_of_a_family_is_tested_over_its_table(table):
    module, name = table.split(":")
    room, contract = module.removeprefix("optkit.").split(".")
    file = TESTS / room / f"test_{CONTRACTS.get(contract, contract)}.py"
    assert f"params={name}" in file.read_text()
