"""The libraries that pyproject.toml asks for are those that the package imports, and those that hints name."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from optkit import lazy
from optkit.system import fingerprint
from optkit.targets.libraries import of_targets

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = PYPROJECT["project"]["dependencies"]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
SOURCES = sorted((ROOT / "optkit").rglob("*.py"))
NODES = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cuda": "cuda-bindings",
    "google": "protobuf",
    "pydantic_core": "pydantic",
    "yaml": "pyyaml",
}
"""What brings a module, where its name is another's."""
BROUGHT_ALONG = {"torchao"}
"""Required by a library of an extra, not by the extra itself."""
BY_TABLE = {"tensorrt-rtx-cu13"}
"""Imported by a name out of a table of alternatives (``trt.MODULES``), which a reader of the source does not see."""


def project(requirement):
    """``neural-compressor[pt]>=3.4`` -> ``neural-compressor``"""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def unfolded(extra):
    """An extra's libraries, and those of the extras that it takes in."""
    for requirement in EXTRAS[extra]:
        inner = re.fullmatch(r"optkit\[(.*)\]", requirement)
        if inner is None:
            yield requirement
        for name in inner[1].split(",") if inner else ():
            yield from unfolded(name)


def required():
    """The module and the extra of each ``lazy.require`` in the package."""
    for node in NODES:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy.require":
            keywords = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
            yield ast.literal_eval(node.args[0]), keywords.get("extra")


def imported():
    """Top-level modules that the package imports, by statement or by ``lazy.require``; typing included."""
    for node in NODES:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
    yield from (module.partition(".")[0] for module, _ in required())


THIRD_PARTY = {
    DISTRIBUTIONS.get(module, module.replace("_", "-"))
    for module in set(imported()) - sys.stdlib_module_names - {"optkit"}
}


def test_every_required_library_is_imported():
    assert {project(requirement) for requirement in CORE} - THIRD_PARTY == set()


def test_every_library_of_an_extra_is_imported():
    asked_for = {project(requirement) for extra in EXTRAS for requirement in unfolded(extra)}
    assert asked_for - THIRD_PARTY - BY_TABLE == set()


def test_every_imported_library_is_a_dependency():
    asked_for = {project(requirement) for extra in EXTRAS for requirement in unfolded(extra)}
    assert THIRD_PARTY - asked_for - {project(requirement) for requirement in CORE} == set()


def test_hints_name_the_libraries_of_pyproject():
    assert {extra: list(names) for extra, names in lazy.EXTRAS.items()} == {
        extra: list(unfolded(extra)) for extra in EXTRAS if extra != "all"
    }
    assert set(lazy.CORE.values()) <= set(CORE)


def test_every_extra_that_is_named_in_the_package_exists():
    for module, extra in required():
        known = lazy.CORE if extra is None else lazy.EXTRAS
        assert (extra or module) in known, module


@pytest.mark.parametrize(
    ("library", "extra"),
    [(each.name, each.extra) for each in (*fingerprint.LIBRARIES, *of_targets()) if each.replaces is None],
)
def test_the_fingerprint_knows_which_extra_brings_a_library(library, extra):
    in_core = library in {project(requirement) for requirement in CORE}
    assert extra is None or library in BROUGHT_ALONG | {project(requirement) for requirement in lazy.EXTRAS[extra]}
    assert in_core <= (extra is None)


def test_nothing_is_installed_by_the_name_of_optkit():
    """A package of that name on an index is a stranger's."""
    for path in (*SOURCES, *PAGES):
        assert not re.findall(r"(?<![./\w])optkit\[|pip install '?optkit\b", path.read_text()), path.name


@pytest.mark.parametrize("name", PYPROJECT["project"]["optional-dependencies"])
def test_the_readme_tells_of_every_extra(name):
    assert f"| `{name}` |" in (ROOT / "README.md").read_text()
