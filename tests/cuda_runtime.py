"""A CUDA runtime without a GPU, for the logic around it."""

import ctypes
from enum import Enum
from types import SimpleNamespace


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

    def __init__(self, capability="8.9"):
        self.capability = capability
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
        major, minor = map(int, self.capability.split("."))
        return Error.cudaSuccess, {"major": major, "minor": minor}[part]

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
