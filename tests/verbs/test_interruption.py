"""Ctrl-C, an end by the system, and a full disk: one line, the documented exit code, nothing half-written."""

import os
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest

COMMAND = [sys.executable, "-m", "optkit"]


def started(*arguments, **options):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def children_once_there(process):
    """The child processes, as soon as there is one."""
    for _ in range(600):
        found = psutil.Process(process.pid).children(recursive=True)
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no session was opened")


@pytest.mark.slow
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_no_process_and_no_file(told, samples, tmp_path):
    (tmp_path / "scratch").mkdir()
    arguments = ("compare", samples / "model.onnx", samples / "model.onnx", "--seconds", "60")
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch")}
    process = started(*arguments, cwd=tmp_path, env=environment)
    children = children_once_there(process)
    time.sleep(0.5)
    process.send_signal(told)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "warning: interrupted; nothing half-written was left behind"
    assert "Traceback" not in errors
    assert output == ""
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert [path.name for path in (tmp_path / "scratch").iterdir() if path.name != ".ses"] == []  # onnxruntime's own


@pytest.mark.slow
def test_an_interrupted_quantization_leaves_the_folder_as_it_was(samples, tmp_path):
    process = started(
        *("quantize", samples / "model.onnx", "--int8", "--data", samples / "evaluation.npz", "--seconds", "60"),
        *("-o", tmp_path / "out.onnx"),
        cwd=tmp_path,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert {path.name for path in tmp_path.iterdir()} <= {"out.onnx"}


def nothing_beyond(size):
    """Every file of this process ends at ``size`` bytes, as on a disk that is full then."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "{}/traced.pt", "-o", "out/model.onnx"),
        ("quantize", "{}/model.onnx", "--int8", "--no-measure", "-o", "out/small.onnx"),
        ("compile", "{}/model.onnx", "--target", "onnxruntime", "-o", "out/bundle"),
        ("compile", "{}/model.onnx", "--target", "openvino", "-o", "out/bundle"),
        ("run", "recipe.yaml", "-o", "out/run"),
    ],
    ids=lambda arguments: "-".join(arguments[:1] + arguments[3:4]),
)
def test_a_full_disk_is_one_line_and_leaves_nothing(arguments, samples, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "recipe.yaml").write_text(f"model: {samples}/model.onnx\nbenchmark: {{seconds: 0.1}}\n")
    process = started(*(text.format(samples) for text in arguments), cwd=tmp_path, preexec_fn=nothing_beyond(60_000))
    _, errors = process.communicate(timeout=120)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in errors
    assert process.returncode in (1, 2)
    assert len(lines) == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".onnx", ".xml", ".bin")]
    assert not list(tmp_path.rglob(".optkit-*"))
