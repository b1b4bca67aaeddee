"""No file of the package names a runtime but the runtime's own, the tables, and those argued for here."""

import ast
import re
from pathlib import Path

import pytest

from optkit.targets.table import TARGETS

PACKAGE = Path(__file__).parents[2] / "optkit"
OWN = re.compile(r"targets/|quantization/methods/(onnxruntime|openvino|tensorrt|nncf)_|formats/openvino/")
"""The paths of a runtime's own modules, of a format's readers, and of the quantizing methods of a library."""
TABLES = ("quantization/quantizer.py",)
ARGUED = {
    "formats/model.py": "names of formats, which are called like the runtimes that write them",
    "formats/bundle_manifest.py": "names of formats, as a bundle spells them",
    "formats/torch/exported_program.py": "a name in the guards of exported programs",
    "lazy.py": "the libraries of each extra, with their bounds",
    "stages/export.py": "the library that exports, as the engine of the record",
    "stages/distill.py": "the library that trains, as the engine of the record",
    "options/measuring.py": "help",
    "options/source.py": "help",
    "options/verbs/plan.py": "help",
    "options/verbs/optimize.py": "help",
    "options/verbs/compile.py": "help",
    "options/verbs/quantize.py": "help, and the libraries that --engine may name",
    "cli/verbs.py": "examples of commands",
    "cli/quantize.py": "a hint on flags that only one runtime takes together",
    "formats/opening.py": "names of formats, which are called like the runtimes that write them",
    "quantization/methods/neural_compressor_static.py": "a warning on kernels that a model needs",
}
"""File: reason. An entry that is no longer needed fails the test."""
NAMED = re.compile(rf"\b({'|'.join(name for name in TARGETS if name not in ('torch', 'fake'))})\b")


def told(tree):
    """The docstrings of a module, those under attributes too."""
    return {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def of_libraries_and_formats(tree):
    """Constants that name a library to import, an extra to install, or a format to compare with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("require", "available", "import_module"):
            yield from node.args
        if isinstance(node, ast.keyword) and node.arg == "extra":
            yield node.value
        if isinstance(node, ast.Compare) and any(
            "format" in ast.unparse(each) for each in (node.left, *node.comparators)
        ):
            yield from (each for side in (node.left, *node.comparators) for each in ast.walk(side))


def names(path):
    """The string constants of a file that name a runtime, with their lines."""
    tree = ast.parse(path.read_text())
    passed = told(tree) | set(of_libraries_and_formats(tree))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node in passed:
            continue
        if NAMED.search(node.value) or node.value in ("torch", "fake"):
            yield f"{node.lineno}: {node.value[:60]}"


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", [each for each in FILES if not OWN.match(each) and each not in TABLES])
def test_only_a_runtimes_own_modules_and_the_tables_name_it(file):
    found = list(names(PACKAGE / file))
    if file in ARGUED:
        assert found, f"{file} needs no entry in ARGUED any more"
    else:
        assert not found


def test_every_entry_is_of_a_file():
    assert ARGUED.keys() <= set(FILES)
