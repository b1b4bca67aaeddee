"""The layer over the CUDA runtime: for real where it is refused, and over a runtime in the host's memory."""

import ctypes
import subprocess
import sys
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest

from optkit import cuda, lazy
from optkit.errors import MissingDeviceError, MissingLibraryError, TargetError


def test_without_a_gpu_the_runtimes_own_words_say_why():
    pytest.importorskip("cuda.bindings")
    program = """
from optkit import cuda
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
    assert caught.value.hint == "pip install 'optkit[tensorrt-rtx]'"


class Error(Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidResourceHandle = 400


class Runtime:
    """The CUDA runtime with the host's memory for a device's, of 1000 bytes: what is enqueued is done at once, unless
    it is captured. Events tell how many copies came before them, a millisecond each.
    """

    cudaError_t = Error
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
    )

    def __init__(self):
        self.memory, self.alive, self.copies, self.captured = {}, [], 0, None

    def __getattr__(self, name):
        """What is destroyed is no longer alive."""
        assert name in ("cudaStreamDestroy", "cudaFree", "cudaFreeHost", "cudaEventDestroy", "cudaGraphExecDestroy")
        return lambda which: (self.alive.remove(which), (Error.cudaSuccess,))[1]

    def _made(self, thing):
        self.alive.append(thing)
        return Error.cudaSuccess, thing

    def cudaGetDeviceCount(self):
        return Error.cudaSuccess, 1

    def cudaDriverGetVersion(self):
        return Error.cudaSuccess, 13000

    def cudaDeviceGetAttribute(self, part, device):
        return Error.cudaSuccess, {"major": 8, "minor": 9}[part]

    def cudaMemGetInfo(self):
        return Error.cudaSuccess, 400, 1000

    def cudaGetErrorName(self, error):
        return Error.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error):
        return Error.cudaSuccess, b"as CUDA words it"

    def cudaStreamCreateWithFlags(self, flags):
        return self._made(7)

    def cudaStreamSynchronize(self, stream):
        return (Error.cudaSuccess if stream in self.alive else Error.cudaErrorInvalidResourceHandle,)

    def cudaMalloc(self, size):
        if size > 1000:
            return Error.cudaErrorMemoryAllocation, None
        memory = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(memory)] = memory
        return self._made(ctypes.addressof(memory))

    cudaMallocHost = cudaMalloc

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        if self.captured is not None:
            self.captured.append((to, source, size))
        else:
            self.copies += 1
            ctypes.memmove(to, source, size)
        return (Error.cudaSuccess,)

    def cudaEventCreate(self):
        return self._made(SimpleNamespace(at=None))

    def cudaEventRecord(self, event, stream):
        event.at = self.copies
        return (Error.cudaSuccess,)

    def cudaEventSynchronize(self, event):
        return (Error.cudaSuccess,)

    def cudaEventElapsedTime(self, start, end):
        return Error.cudaSuccess, float(end.at - start.at)

    def cudaStreamBeginCapture(self, stream, mode):
        self.captured = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        found, self.captured = self.captured, None
        return Error.cudaSuccess, found

    def cudaGraphInstantiate(self, graph, flags):
        return self._made(graph)

    def cudaGraphDestroy(self, graph):
        return (Error.cudaSuccess,)

    def cudaGraphLaunch(self, executable, stream):
        for copy in executable:
            self.cudaMemcpyAsync(*copy, None, stream)
        return (Error.cudaSuccess,)


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

    with cuda.Stream() as stream, cuda.Buffer(4) as buffer, cuda.Graph(both_ways, stream) as graph:
        assert back.tolist() == [0, 0, 0, 0]
        graph.launch(stream)
        assert back.tolist() == [5, 5, 5, 5]
    assert runtime.alive == []


def test_a_stream_is_no_longer_captured_after_an_error_meanwhile(runtime):
    with cuda.Stream() as stream:
        with pytest.raises(ZeroDivisionError):
            cuda.Graph(lambda: 1 / 0, stream)
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
    assert cuda.memory_used() == 600


def test_no_device_is_a_missing_device(runtime, monkeypatch):
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (Error.cudaSuccess, 0), raising=False)
    with pytest.raises(MissingDeviceError, match="no NVIDIA GPU can be used: no device"):
        cuda.require()
