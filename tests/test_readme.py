"""The README's commands do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_ci_calls_the_readmes_test_command():
    steps = [step.strip() for step in BLOCKS[1].strip().split("&&")]
    script = (ROOT / ".ci" / "run").read_text()
    assert steps[0] in script
    assert steps[2] in script


@pytest.mark.slow
def test_the_commands_of_use_it_run_as_they_stand(tmp_path):
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", BLOCKS[2]], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle" / "manifest.json").is_file()
    script = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
