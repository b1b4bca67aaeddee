"""The layer over the CUDA runtime: for real where it is refused, and over a runtime in the host's memory."""

import subprocess
import sys

import numpy as np
import pytest
from cuda_runtime import Error, Runtime

from optkit import lazy
from optkit.errors import MissingDeviceError, MissingLibraryError, TargetError
from optkit.targets import cuda


def test_without_a_gpu_the_runtimes_own_words_say_why():
    pytest.importorskip("cuda.bindings")
    program = """
from optkit.targets import cuda
from optkit.errors import OptkitError
try:
    cuda.require()
except OptkitError as error:
    print(error.exit_code, error.message == cuda.available(), error.message)
"""
    nothing_visible = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=nothing_visible)
    assert done.stdout.startswith("4 True no NVIDIA GPU can be used: "), done.stderr
    assert "cudaError" in done.stdout


def test_a_library_missing_below_an_installed_namespace_is_asked_for_by_its_pip_command():
    with pytest.raises(MissingLibraryError, match=r"'xml\.bindings'") as caught:
        lazy.require("xml.bindings.runtime", extra="tensorrt-rtx")
    assert caught.value.hint == "pip install 'tensorrt-rtx-cu13>=1.4' 'cuda-bindings>=13'"


@pytest.fixture
def runtime(monkeypatch):
    found = Runtime()
    monkeypatch.setattr(cuda, "_library", lambda: found)
    return found


def test_what_is_copied_there_comes_back_and_everything_is_freed(runtime):
    array, back = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    with cuda.Stream() as stream, cuda.Buffer(24) as buffer, cuda.Pinned(24) as pinned:
        pinned.bytes[:] = array.view(np.uint8)
        buffer.copy_from(pinned.bytes, stream)
        buffer.copy_to(back, stream)
        stream.synchronize()
    np.testing.assert_array_equal(back, array)
    assert runtime.alive == []


@pytest.mark.parametrize("array", [np.zeros(7, np.float32), np.zeros((4, 4), np.uint8)[:, :2]])
def test_a_copy_that_does_not_fit_is_not_begun(runtime, array):
    with cuda.Stream() as stream, cuda.Buffer(24) as buffer:
        for copy in (buffer.copy_from, buffer.copy_to):
            with pytest.raises(ValueError, match="must fit"):
                copy(array, stream)
    assert runtime.copies == 0


def test_a_timer_tells_seconds(runtime):
    array = np.zeros(24, np.uint8)
    with cuda.Stream() as stream, cuda.Buffer(24) as buffer, cuda.Timer() as timer:
        timer.start(stream)
        buffer.copy_from(array, stream)
        buffer.copy_from(array, stream)
        timer.stop(stream)
        assert timer.seconds() == pytest.approx(0.002)
    assert runtime.alive == []


def test_a_graph_does_nothing_until_it_is_launched(runtime):
    array = np.full(4, 5, np.uint8)
    back = np.zeros(4, np.uint8)

    def both_ways():
        buffer.copy_from(array, stream)
        buffer.copy_to(back, stream)

    with cuda.Stream() as stream, cuda.Buffer(4) as buffer, cuda.CudaGraph(both_ways, stream) as graph:
        assert back.tolist() == [0, 0, 0, 0]
        graph.launch(stream)
        assert back.tolist() == [5, 5, 5, 5]
    assert runtime.alive == []


def test_a_stream_is_no_longer_captured_after_an_error_meanwhile(runtime):
    with cuda.Stream() as stream:
        with pytest.raises(ZeroDivisionError):
            cuda.CudaGraph(lambda: 1 / 0, stream)
        assert runtime.captured is None


def test_errors_bear_cudas_name(runtime):
    with pytest.raises(TargetError, match=r"out of memory on the GPU: cudaMalloc: cudaErrorMemoryAllocation \(as CUDA"):
        cuda.Buffer(2000)
    stream = cuda.Stream()
    stream.close()
    with pytest.raises(TargetError, match="CUDA failed: cudaStreamSynchronize: cudaErrorInvalidResourceHandle"):
        stream.synchronize()


def test_what_the_device_is(runtime):
    assert cuda.available() is None
    assert cuda.compute_capability() == "8.9"


def test_no_device_is_a_missing_device(runtime, monkeypatch):
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (Error.cudaSuccess, 0), raising=False)
    with pytest.raises(MissingDeviceError, match="no NVIDIA GPU can be used: no device"):
        cuda.require()
