"""What all tests share: the samples, a store of their own, and the command as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the committed CNN and its data."""
    return ROOT / "sample_models" / "fashion_cnn"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test meets what another, or the user, has in the store."""
    monkeypatch.setenv("OPTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def optkit():
    """Run ``optkit`` as a process of its own."""

    def run(*arguments, cwd=None, **environment):
        command = [sys.executable, "-c", "from optkit.__main__ import main; main()", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, timeout=300
        )

    return run


@pytest.fixture(scope="session")
def few(samples, tmp_path_factory):
    """The first 300 of the 1500 samples that the committed CNN is evaluated on, where more would show nothing else."""
    import numpy as np

    path = tmp_path_factory.mktemp("few") / "evaluation.npz"
    with np.load(samples / "evaluation.npz") as data:
        np.savez(path, **{name: data[name][:300] for name in data.files})
    return path


@pytest.fixture(scope="session")
def small(samples, tmp_path_factory):
    """The committed CNN in static INT8 for onnxruntime."""
    from optkit.verbs.quantize import quantize

    path = tmp_path_factory.mktemp("small") / "small.onnx"
    quantize(samples / "model.onnx", path, calibration=samples / "calibration.npz", measure=False)
    return path
