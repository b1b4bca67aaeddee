"""ONNX Runtime's execution providers: how they are asked for, and why one does not load."""

import json
import shutil
import subprocess
from importlib import metadata

import numpy as np
import onnxruntime
import pytest

from optkit import lazy
from optkit.errors import MissingDeviceError, UsageError
from optkit.formats import opening
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.measurement.warnings import session_warnings
from optkit.stages.compile import Compile
from optkit.targets.onnxruntime import providers
from optkit.targets.target import target

CPU, CUDA, RTX = providers.CPU, providers.CUDA, providers.RTX
HAS_CUDA_BUILD = CUDA in onnxruntime.get_available_providers()
HAS_GPU = shutil.which("nvidia-smi") is not None
cpu_build = pytest.mark.skipif(HAS_CUDA_BUILD, reason="needs the build without CUDA, which CI has")
cuda_build_alone = pytest.mark.skipif(not HAS_CUDA_BUILD or HAS_GPU, reason="needs onnxruntime-gpu and no GPU")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture
def cnn(samples):
    return opening.open(samples / "model.onnx")


@pytest.fixture
def unloadable(tmp_path):
    """A shared library that needs another, of the given name, which there is none of."""

    def made(needs):
        for name, links in ((needs, ()), ("provider.so", (f"-l:{needs}",))):
            source = tmp_path / f"{name}.c"
            source.write_text(
                "int needed(void);\nint use(void) { return needed(); }" if links else "int needed(void) { return 1; }"
            )
            command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", tmp_path / name, source]
            subprocess.run([*command, f"-L{tmp_path}", *links], check=True)
        (tmp_path / needs).unlink()
        return tmp_path / "provider.so"

    return made


def opened(model, asked):
    runtime = target("onnxruntime")
    return runtime.open(model, runtime.default_options(threads=1) | {"providers": asked})


def test_providers_are_names_or_pairs_with_options_in_order():
    asked = providers.parse([["CUDAExecutionProvider", {"device_id": 1, "use_tf32": "0"}], "CPUExecutionProvider"])
    assert list(asked.items()) == [(CUDA, {"device_id": "1", "use_tf32": "0"}), (CPU, {})]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (CUDA, "is no list of providers"),
        ([], "is no list of providers"),
        ([CUDA, {"device_id": 0}], "'device_id': 0.* is neither a name nor"),
        ([[CUDA]], "is neither a name nor"),
        ([[CUDA, {"device_id": [0]}]], "is neither a name nor"),
        ([7], "7 is neither a name nor"),
        ([CUDA, [CUDA, {}]], "is there twice"),
        ([[CPU, {"device_id": 0}]], "takes no options, and device_id is given"),
        (["CUDAExecutionProvidr"], "knows no provider 'CUDAExecutionProvidr'"),
    ],
)
def test_what_is_no_provider_is_a_usage_error(asked, says, cnn):
    with pytest.raises(UsageError, match=says):
        opened(cnn, asked)


def test_a_misspelt_provider_is_guessed():
    with pytest.raises(UsageError) as caught:
        providers.parse(["CudaExecutionProvider"])
    assert "did you mean 'CUDAExecutionProvider'?" in caught.value.hint


@cpu_build
@pytest.mark.parametrize("asked", [[CUDA], [CUDA, CPU], ["TensorrtExecutionProvider", CPU]])
def test_a_build_without_the_provider_says_which_package_has_it(asked, cnn):
    with pytest.raises(MissingDeviceError, match=f"onnxruntime [0-9.]+ is built without {asked[0]}") as caught:
        opened(cnn, asked)
    assert "onnxruntime-gpu[cuda,cudnn]" in caught.value.hint
    assert "never both" in caught.value.hint


@cpu_build
def test_cuda_without_cuda_ends_with_exit_code_4_and_writes_nothing(optkit, samples, tmp_path):
    model = samples / "model.onnx"
    pair = f'providers=[["{CUDA}",{{"device_id":0}}],"{CPU}"]'
    for command in (
        ("benchmark", model, "--device", "cuda"),
        ("compile", model, "--target", "onnxruntime", "--device", "cuda", "-o", "bundle"),
        ("compile", model, "--target", "onnxruntime", "--option", pair, "-o", "bundle"),
    ):
        done = optkit(*command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (4, ""), done.stderr
        assert CUDA in done.stderr
        assert "onnxruntime-gpu" in done.stderr
    assert not list(tmp_path.iterdir())


@needs_gcc
@pytest.mark.parametrize(
    ("library", "brings"),
    [
        ("libcublasLt.so.99", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("libcuda.so.99", "NVIDIA's driver"),
        ("libnvinfer.so.99", "TensorRT"),
        ("libsomething.so.99", "ldd "),
    ],
)
def test_a_session_that_fell_back_names_the_missing_library_and_what_brings_it(
    library, brings, unloadable, monkeypatch
):
    path = unloadable(library)
    monkeypatch.setattr(providers, "_file", lambda name: path)
    with pytest.raises(MissingDeviceError, match=f"{CUDA} does not load: {library}: cannot open") as caught:
        providers.check_used({CUDA: {}, CPU: {}}, [CPU])
    assert brings in caught.value.hint


def test_a_session_that_uses_what_was_asked_for_is_fine():
    providers.check_used({CUDA: {}}, [CUDA, CPU])


@pytest.mark.parametrize(
    ("reason", "error", "says"),
    [
        (
            "cuda_call.cc:146 CudaCall CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; "
            "GPU=-1 ; hostname=vm ; expr=cudaSetDevice(info_.device_id);",
            MissingDeviceError,
            "does not run here: CUDA driver version is insufficient for CUDA runtime version",
        ),
        ('provider_options_utils.h:182 Parse Unknown provider option: "foo".', UsageError, "no such option: 'foo'"),
    ],
)
def test_what_onnxruntime_says_of_a_provider_becomes_one_line(reason, error, says, tmp_path, monkeypatch):
    monkeypatch.setattr(providers, "_file", lambda name: tmp_path / "built_in.so")
    found = providers.failure({CUDA: {}}, reason)
    assert type(found) is error
    assert found.message == f"{CUDA}{'' if error is MissingDeviceError else ':'} {says}"


def test_what_is_not_about_a_provider_is_left_to_the_target(tmp_path, monkeypatch):
    monkeypatch.setattr(providers, "_file", lambda name: tmp_path / "built_in.so")
    assert providers.failure({CUDA: {}}, "CUDA failure 2: out of memory ; GPU=0 ;") is None
    assert providers.failure({CPU: {}}, "Mystery(1) is not a registered function/op") is None


@pytest.mark.skipif(lazy.available(providers.PLUGINS[RTX]), reason="the plugin is here")
def test_a_plugin_that_is_not_installed_comes_with_the_command_that_brings_it(cnn):
    with pytest.raises(MissingDeviceError, match=f"{RTX} is not installed") as caught:
        opened(cnn, [RTX])
    assert caught.value.hint == "pip install onnxruntime-ep-nv-tensorrt-rtx"


@needs_gcc
def test_a_plugin_that_does_not_load_names_the_missing_library(cnn, unloadable, tmp_path, monkeypatch, capfd):
    path = unloadable("libtensorrt_rtx.so.99")
    (tmp_path / "plugin_of_ours.py").write_text(f"def get_library_path():\n    return {str(path)!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(providers.PLUGINS, RTX, "plugin_of_ours")
    with pytest.raises(MissingDeviceError, match=f"{RTX} does not load: libtensorrt_rtx.so.99: cannot open") as caught:
        opened(cnn, [RTX])
    assert caught.value.hint == f"ldd {path} shows what it needs"
    assert capfd.readouterr().err == ""


def test_a_plugins_session_runs_on_its_devices(cnn, monkeypatch):
    monkeypatch.setitem(providers.PLUGINS, CPU, "onnxruntime")  # whose own CPU is a device like a plugin's
    with opened(cnn, [CPU]) as session:
        assert session.facts()["providers"] == [CPU]
        assert session.run({"x": np.zeros((1, 1, 28, 28), np.float32)})["logits"].shape == (1, 10)


def test_nodes_are_counted_by_provider(samples):
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(samples / "model.onnx", settings, providers=[CPU])
    counted = providers.nodes(session)
    assert list(counted) == [CPU]
    assert counted[CPU] > 1


def test_nodes_that_the_gpu_left_to_the_cpu_are_a_caution(cnn):
    facts = {"providers": [CUDA, CPU], "nodes": {CUDA: 12, CPU: 3}}
    (note,) = session_warnings(Candidate("m.onnx", cnn, "onnxruntime"), facts, 1)
    assert note.kind == "other-provider"
    assert note.text.startswith(f"{CUDA} left 3 to {CPU}, of 15 nodes")
    assert not list(session_warnings(Candidate("m.onnx", cnn, "onnxruntime"), facts | {"nodes": {CUDA: 15}}, 1))


def test_a_device_is_what_each_target_understands(cnn):
    on_gpu = resolve_candidate(cnn, device="cuda")
    assert providers.parse(on_gpu.options["providers"]) == {CUDA: {"use_tf32": "0"}}
    assert resolve_candidate(cnn, device="cpu").options == resolve_candidate(cnn).options
    with pytest.raises(UsageError, match="openvino does not run on 'cuda'"):
        target("openvino").device_options("cuda")


def test_tensorrt_runs_on_a_gpu_and_nowhere_else():
    assert target("tensorrt").device_options("cuda") == {}
    with pytest.raises(UsageError, match="tensorrt does not run on 'cpu'"):
        target("tensorrt").device_options("cpu")


def test_a_bundles_device_holds_until_another_is_asked_for(cnn):
    from dataclasses import replace

    bundled = replace(cnn, target="onnxruntime", options={"providers": [[CUDA, {"device_id": 1}]]})
    assert resolve_candidate(bundled).options["providers"] == [[CUDA, {"device_id": 1}]]
    assert resolve_candidate(bundled, device="cpu").options["providers"] == [CPU]


def test_operators_are_not_timed_where_onnxruntime_tells_launches_only(cnn):
    runtime = target("onnxruntime")
    with pytest.raises(UsageError, match="not how long that took"):
        runtime.profile(cnn, runtime.default_options() | runtime.device_options("cuda"), [], 1.0)


def test_a_recipe_may_name_the_device():
    assert Compile.model_validate({"device": "cuda"}).device == "cuda"


def test_doctor_tries_each_provider(optkit):
    done = optkit("doctor", "--json")
    found = {each["name"]: each["error"] for each in json.loads(done.stdout)["providers"]}
    assert found[CPU] is None
    assert set(onnxruntime.get_available_providers()) <= set(found)


@cuda_build_alone
def test_the_cuda_build_without_cuda_says_what_it_lacks(optkit, samples):
    done = optkit("benchmark", samples / "model.onnx", "--device", "cuda")
    assert done.returncode == 4
    assert f"error: {CUDA} does not load: libcu" in done.stderr
    assert "cannot open shared object file" in done.stderr
    assert "hint: " in done.stderr
    states = {each["name"]: each["error"] for each in json.loads(optkit("doctor", "--json").stdout)["providers"]}
    assert states[CUDA].startswith(f"{CUDA} does not load: libcu")
    assert states["TensorrtExecutionProvider"].startswith("TensorrtExecutionProvider does not load: lib")


@cuda_build_alone
def test_the_extras_that_the_hint_names_exist():
    assert {"cuda", "cudnn"} <= set(metadata.metadata("onnxruntime-gpu").get_all("Provides-Extra"))


@cuda_build_alone
def test_in_this_process_too_the_error_is_all_that_is_said(cnn, capfd):
    with pytest.raises(MissingDeviceError):
        opened(cnn, [CUDA, CPU])
    assert capfd.readouterr() == ("", "")
