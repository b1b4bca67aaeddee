"""What every verb promises: help, examples, one JSON document, clean streams, cheap start."""

import json
import subprocess
import sys

import pytest

from optkit import lazy
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


QUANTIZE = ("quantize", "{}/program.pt2", "--int8", "--calibration", "{}/calibration.npz", "--no-measure")


@pytest.mark.parametrize(
    ("library", "extra", "arguments"),
    [
        ("openvino", "openvino", ("benchmark", "{}/model.onnx@openvino")),
        ("torch", "torch", ("export", "{}/traced.pt", "-o", "out.onnx")),
        ("nncf", "openvino", ("quantize", "{}/model.onnx", "--int8", "--target", "openvino", "--no-measure")),
        ("neural_compressor", "neural-compressor", (*QUANTIZE, "--engine", "neural-compressor")),
    ],
)
def test_a_missing_library_names_its_extra_and_exits_4(library, extra, arguments, optkit, samples, tmp_path):
    blocked = tmp_path / "blocked" / library
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text(f"raise ModuleNotFoundError('blocked', name={library!r})")
    output = () if arguments[0] == "benchmark" or "-o" in arguments else ("-o", "out.xml")
    done = optkit(
        *(text.format(samples) for text in (*arguments, *output)), cwd=tmp_path, PYTHONPATH=str(tmp_path / "blocked")
    )
    assert done.returncode == 4, done.stderr
    assert lazy.pip_command(extra) in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocked"]
