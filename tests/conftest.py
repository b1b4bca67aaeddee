"""What all tests share: the samples, a store of their own, and the command as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=50)
settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the committed CNN and its data."""
    return ROOT / "sample_models" / "fashion_cnn"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test meets what another, or the user, has in the store."""
    monkeypatch.setenv("OPTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def own_flags():
    """No test meets the processor's flags that another left.

    onnxruntime's ``session.set_denormal_as_zero`` sets those of the whole thread.
    """
    yield
    if float("5e-324") * float("1") == 0.0:
        import torch

        torch.set_flush_denormal(False)


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
def cli():
    """Run ``optkit`` in this process; the result has ``exit_code``, ``stdout`` and ``stderr``."""
    from typer.testing import CliRunner

    from optkit.cli.app import app

    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


H100 = {
    "name": "NVIDIA H100",
    "memory.total": "81559",
    "compute_cap": "9.0",
    "driver_version": "580.82.07",
    "clocks.sm": "1980",
    "clocks.max.sm": "1980",
    "clocks.mem": "2619",
    "clocks.max.mem": "2619",
    "power.draw": "97.31",
    "power.limit": "700.00",
    "pstate": "P0",
    "temperature.gpu": "34",
    "utilization.gpu": "0",
    "persistence_mode": "Enabled",
    "mig.mode.current": "Disabled",
    "clocks_event_reasons.active": "0x0000000000000002",
}
"""As nvidia-smi prints it: quiet, its clock locked."""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put an ``nvidia-smi`` on the path that tells of GPUs, each an H100 with changes; none: without the field.

    As the real one does, it refuses a whole query for a field that it does not know.
    """

    def install(*changes):
        gpus = [{name: text for name, text in (H100 | each).items() if text is not None} for each in changes]
        program = f"""#!{sys.executable}
import sys
gpus = {gpus!r}
fields = sys.argv[1].removeprefix("--query-gpu=").split(",")
for field in fields:
    if field not in gpus[0]:
        sys.exit(f'Field "{{field}}" is not a valid field to query.')
for gpu in gpus:
    print(", ".join(gpu[field] for field in fields))
"""
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "nvidia-smi").write_text(program)
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return install


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
