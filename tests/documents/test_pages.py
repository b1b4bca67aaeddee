"""The documentation's commands do what they say; the page of the command line is what the command line says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()


def blocks(text):
    """Shell and Python blocks, in order. Those of ``console`` and ``text`` show what something looks like."""
    return re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)


def carry_out(found, folder):
    shutil.copytree(ROOT / "sample_models", folder / "sample_models", ignore=shutil.ignore_patterns("fetched"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, code in found:
        command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


def test_ci_calls_the_readmes_test_command():
    steps = [step.strip() for step in blocks(README)[1][1].strip().split("&&")]
    script = (ROOT / ".ci" / "run").read_text()
    assert steps[0] in script
    assert steps[2] in script


@pytest.mark.slow
def test_the_readmes_commands_run_as_they_stand(tmp_path):
    carry_out(blocks(README)[2:], tmp_path)
    assert (tmp_path / "bundle" / "manifest.json").is_file()


LONG = ("optimize", "train")
"""Pages whose commands search and train for minutes."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem, marks=[pytest.mark.thorough] * (page.stem in LONG)) for page in PAGES]
)
def test_a_pages_commands_run_as_they_stand(page, tmp_path):
    carry_out(blocks(page.read_text()), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_makefile_builds_once_and_again_what_changed(tmp_path):
    rules = re.search(r"```make\n(.*?)```", (ROOT / "docs" / "gate.md").read_text(), re.DOTALL)[1]
    (tmp_path / "Makefile").write_text(rules)
    shutil.copytree(ROOT / "sample_models" / "fashion_cnn", tmp_path / "sample_models" / "fashion_cnn")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def make(*arguments):
        command = ["make", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)

    assert make().returncode == 0
    assert (tmp_path / "bundle" / "manifest.json").is_file()
    assert make("--question").returncode == 0
    (tmp_path / "small.onnx").touch()
    assert make("--question").returncode == 1
    assert make("MODEL=small.onnx", "DATA=missing.npz").returncode != 0


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_page_of_the_command_line_is_what_typer_says_of_it():
    command = [str(Path(sys.executable).parent / "typer"), "optkit.__main__", "utils", "docs", "--name", "optkit"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "cli.md").read_text().strip() == done.stdout.strip(), "write it anew: nox -s reference"
