"""What doctor says of this machine, and of machines on which something is missing or broken."""

from __future__ import annotations

import json

import pytest

import optkit as api
from optkit.records.machine import GpuRecord, LibraryRecord
from optkit.system import fingerprint
from optkit.targets.diagnosis import of_cpu, of_libraries, tried
from optkit.targets.fake.target import Fake
from optkit.targets.target import target


def ours(name, *modules):
    """A target of that name, made of the first of the modules that is installed."""
    return type("Ours", (Fake,), {"name": name, "modules": modules, "extra": name})()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Put a library of the given code on the path of this process and of those it starts."""

    def installed(code):
        (tmp_path / "runtime_of_ours.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return ours("ours", "no_such_runtime", "runtime_of_ours")

    return installed


def test_doctor_names_the_targets_that_really_import():
    found = api.doctor()
    states = {target.name: target.error for target in found.targets}
    assert list(states) == ["onnxruntime", "openvino", "tensorrt", "torch"]
    assert states["onnxruntime"] is None


def test_doctor_is_one_json_document(optkit):
    done = optkit("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["schema"] == "optkit.doctor/1"
    assert document["machine"]["cores"] >= 1


def test_doctor_shows_the_machine_and_the_targets_and_with_v_the_libraries(optkit):
    plain, verbose = optkit("doctor"), optkit("doctor", "-v")
    assert "instructions" in plain.stdout
    assert "onnxruntime" in plain.stdout
    assert "neural-compressor" not in plain.stdout
    assert "neural-compressor" in verbose.stdout


def test_doctor_shows_a_gpu_with_its_state(optkit, nvidia_smi):
    nvidia_smi({"clocks.sm": "1500", "clocks_event_reasons.active": "0x4"})
    lines = optkit("doctor").stdout.splitlines()
    assert any("NVIDIA H100, 85.5 GB, compute capability 9.0" in line for line in lines)
    assert any(
        "P0, SM 1500 of 1980 MHz, memory 2619 of 2619 MHz, 97 of 700 W, 34 °C, persistence mode on, MIG off" in line
        for line in lines
    )
    assert any("NVIDIA H100 is throttled: sw_power_cap" in line for line in lines)


def test_a_library_that_works_has_its_version(library):
    found = tried(library("__version__ = '1.2'"))
    assert (found.version, found.error) == ("1.2", None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libtbb.so.12: cannot open')", "ImportError: libtbb.so.12: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashes on import: SIGSEGV"),
        ("import os; os._exit(3)", "ends with exit code 3 on import"),
    ],
)
def test_a_broken_library_is_a_line_with_the_reason(library, code, reason):
    found = tried(library(code))
    assert found.error == reason
    (note,) = of_libraries(fingerprint.fingerprint().model_copy(update={"libraries": []}), [found])
    assert note.level == "warning"
    assert reason in note.text


def test_a_file_in_the_users_folder_is_not_taken_for_a_library(tmp_path, monkeypatch, optkit):
    (tmp_path / "torch.py").write_text("raise RuntimeError('not the library')")
    states = {
        each["name"]: each["error"] for each in json.loads(optkit("doctor", "--json", cwd=tmp_path).stdout)["targets"]
    }
    assert "not the library" not in str(states)


def test_what_is_missing_comes_with_the_command_that_brings_it(tmp_path):
    here = fingerprint.fingerprint().model_copy(
        update={"libraries": [LibraryRecord(name="nncf", version=None, extra="openvino")]}
    )
    missing = tried(ours("openvino", "no_such_runtime"))
    notes = [note.text for note in of_libraries(here, [missing])]
    assert notes == ["openvino, nncf are not installed: pip install 'openvino>=2025.2' 'nncf>=2.17'"]


@pytest.mark.parametrize(
    ("isa", "words"),
    [
        (["avx2"], ["no VNNI"]),
        (["avx2", "avx512_vnni"], []),
        (["avx2", "avx_vnni", "avx512_bf16"], ["this CPU has bf16"]),
        (["neon", "asimddp"], []),
    ],
)
def test_what_the_cpu_means_for_quantized_models_is_said(isa, words):
    here = fingerprint.fingerprint().model_copy(update={"isa": isa})
    advice = target("openvino").advice(here, LibraryRecord(name="openvino", version="1"))
    notes = [*of_cpu(here), *advice]
    assert [word for word in words if any(word in note.text for note in notes)] == words
    assert len(notes) == len(words)


def test_a_gpu_that_tensorrt_rtx_does_not_know_is_said():
    gpus = [GpuRecord(name="H100", compute_capability="9.0"), GpuRecord(name="L4", compute_capability="8.9")]
    here = fingerprint.fingerprint().model_copy(update={"gpus": gpus})
    advice = target("tensorrt").advice(here, LibraryRecord(name="tensorrt", version="1.7.1.116"))
    warnings = [note for note in advice if note.level == "warning"]
    assert [note.where for note in warnings] == ["H100"]
    assert "no compute capability 9.0" in warnings[0].text
