"""What every verb promises: help, examples, one JSON document, clean streams, cheap start."""

import json
import subprocess
import sys

import pytest

from optkit.cli.verbs import VERBS

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "numpy", "matplotlib", "jinja2")  # Typer brings pydantic


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_imports_nothing_heavy_and_ends_with_examples(verb):
    script = (
        "import sys\nfrom optkit.__main__ import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print('heavy:', [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    arguments = [verb, "--help"] if verb else ["--help"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0
    assert "heavy: []" in done.stderr
    assert done.stdout.count("\n    optkit ") >= 3
    if verb:
        assert "--json" in done.stdout


def test_json_is_one_document_and_nothing_else_on_stdout(optkit, samples):
    done = optkit("inspect", samples / "model.onnx", "--json")
    assert json.loads(done.stdout)["schema"] == "optkit.inspection/1"


def test_an_error_is_one_line_a_hint_and_one_json_document(optkit, tmp_path):
    done = optkit("inspect", tmp_path / "missing.onnx", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert "missing.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_told(optkit):
    assert optkit("--version").stdout.startswith("optkit 0.")


def test_a_missing_library_names_its_extra_and_exits_4(optkit, samples, tmp_path):
    blocked = tmp_path / "openvino"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError('blocked', name='openvino')")
    done = optkit("benchmark", f"{samples / 'model.onnx'}@openvino", PYTHONPATH=str(tmp_path))
    assert done.returncode == 4
    assert "pip install 'optkit[openvino]'" in done.stderr
